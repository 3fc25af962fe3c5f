"""Every route of the application, taken from the application: none answers without a token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Mount, Route

from server.credentials import Role, may
from server.main import create_app
from server.settings import Settings

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = create_app(Settings(home=tmp_path_factory.mktemp("locked"), token=TOKEN))
    yield TestClient(app, base_url="http://127.0.0.1:8300", raise_server_exceptions=False, follow_redirects=False)
    app.state.broker.close()
    app.state.store.close()


def routes_of(routes: list[BaseRoute], before: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route, a path's parameters in braces."""
    for route in routes:
        if isinstance(route, Mount):
            yield "GET", f"{before}{route.path}/{{file}}"
            yield from routes_of(list(route.routes or []), before + route.path)
        elif isinstance(route, Route):
            for method in sorted(route.methods or {"GET"}):
                yield method, before + re.sub(r":\w+\}", "}", route.path)
        else:
            inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
            assert inner is not None, f"{route!r} is of a kind that this test does not know; teach it"
            prefix = getattr(getattr(route, "include_context", None), "prefix", "")
            yield from routes_of(list(inner), before + prefix)


def every_route(client: TestClient) -> list[tuple[str, str]]:
    """Of the application, a path's parameters filled with something."""
    app = client.app
    assert isinstance(app, FastAPI)
    filled = [(method, path.replace("{file}", "app.css")) for method, path in routes_of(app.routes)]
    return [(method, re.sub(r"\{[^}]*\}", "run-0000000000", path)) for method, path in filled]


def test_the_enumeration_finds_what_the_openapi_document_and_the_pages_list(locked: TestClient) -> None:
    found = set(every_route(locked))
    assert isinstance(locked.app, FastAPI)
    for path, methods in locked.app.openapi()["paths"].items():
        for method in methods:
            assert (method.upper(), re.sub(r"\{[^}]*\}", "run-0000000000", path)) in found
    assert {("GET", "/compare"), ("GET", "/runs/run-0000000000/run-0000000000"), ("GET", "/static/app.css")} <= found


def test_no_route_but_healthz_answers_without_a_token(locked: TestClient) -> None:
    for method, path in every_route(locked):
        answer = locked.request(method, path, json={} if method in ("POST", "PUT", "PATCH") else None)
        if path == "/healthz":
            assert answer.status_code == 200
            continue
        assert answer.status_code == 401, (method, path)
        assert method == "HEAD" or answer.json()["code"] == "unauthorized"


@pytest.mark.parametrize("header", [{"authorization": "Bearer wrong"}, {"cookie": "natlab-8300=wrong"}])
def test_no_route_answers_a_wrong_token_or_cookie(locked: TestClient, header: dict[str, str]) -> None:
    for method, path in every_route(locked):
        if path != "/healthz":
            assert locked.request(method, path, headers=header).status_code == 401, (method, path)


def test_nothing_passes_from_another_origin_or_by_another_name_even_with_the_token(locked: TestClient) -> None:
    with_token = {"authorization": f"Bearer {TOKEN}"}
    for method, path in every_route(locked):
        wrong_name = locked.request(method, path, headers={**with_token, "host": "rebound.example"})
        assert wrong_name.status_code == 421, (method, path)
        for crossing in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            crossed = locked.request(method, path, headers={**with_token, **crossing})
            assert crossed.status_code == 403, (method, path)


def test_no_answer_lets_another_origin_read_it(locked: TestClient) -> None:
    for method, path in every_route(locked):
        answer = locked.request(method, path, headers={"origin": "http://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control-")], (method, path)


def test_every_route_is_open_to_the_roles_that_should_have_it(locked: TestClient) -> None:
    for method, path in every_route(locked):
        workers = re.search(r"/(claim|heartbeat|finish)$", path) or (method, path[:16]) == ("PUT", "/api/v1/workers/")
        assert may(Role.OPERATOR, method, path)
        assert may(Role.VIEWER, method, path) == (method in ("GET", "HEAD")), (method, path)
        asking = method == "GET" and (path == "/api/v1/workers" or path.endswith("/stored"))
        assert may(Role.WORKER, method, path) == bool(workers or asking), (method, path)
        assert may(Role.OPERATOR, method, path, by_cookie=True) == (not workers), (method, path)


def test_the_database_and_the_answers_hold_no_token(tmp_path: Path, redis_url: str) -> None:
    settings = Settings(
        home=tmp_path,
        redis_url=redis_url,
        token="operators-secret-token",
        viewer_token="viewers-secret-token",
        worker_token="workers-secret-token",
    )
    app = create_app(settings)
    client = TestClient(app, base_url="http://127.0.0.1:8300")
    text = client.get("/?token=operators-secret-token").text
    body = {"name": "x", "base": {"steps": 5}, "budgets": [{"selector": "full"}]}
    launched = client.post("/api/v1/experiments", json=body)
    assert launched.status_code == 201
    run = launched.json()["runs"][0]["id"]
    pages = ["/experiments", "/experiments/new", f"/runs/{run}/config", f"/api/v1/runs/{run}", "/api/v1/openapi.json"]
    text += "".join(client.get(page).text for page in pages) + repr(settings)
    app.state.store.close()
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()) + text.encode()
    assert b"secret-token" not in held
