from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from server.main import create_app
from server.settings import Settings
from tests.server.support import experiment, row_counts

TOKEN = "a-token-of-some-length"


def talk(settings: Settings, base_url: str = "http://127.0.0.1:8300") -> TestClient:
    return TestClient(create_app(settings), base_url=base_url, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def locked(tmp_path: Path, redis_url: str) -> TestClient:
    """A client of a server that needs a token, without it."""
    return talk(Settings(home=tmp_path / "locked", redis_url=redis_url, token=TOKEN))


@pytest.mark.parametrize("host", ["127.0.0.1:8300", "localhost", "LOCALHOST:8300", "[::1]:8300", "lab.example"])
def test_known_hosts_are_answered(tmp_path: Path, host: str) -> None:
    client = talk(Settings(home=tmp_path, allowed_hosts=frozenset({"lab.example"})))
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8300", "localhost@evil.example", "[::1", ""])
def test_unknown_hosts_are_not(client: TestClient, host: str) -> None:
    answer = client.get("/api/v1/experiments", headers={"host": host})
    assert answer.status_code == 421 and answer.json()["code"] == "wrong_host"


def test_any_host_is_allowed_only_behind_a_token(tmp_path: Path) -> None:
    star = frozenset({"*"})
    without = talk(Settings(home=tmp_path / "1", allowed_hosts=star))
    assert without.get("/healthz", headers={"host": "evil.example"}).status_code == 421
    behind = talk(Settings(home=tmp_path / "2", allowed_hosts=star, token=TOKEN))
    assert behind.get("/healthz", headers={"host": "gpu-box:8300"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "null", "http://127.0.0.1:8300.evil.example", "http://["]
)
def test_changes_from_other_origins_are_refused(client: TestClient, origin: str) -> None:
    answer = client.post("/api/v1/experiments", json=experiment(), headers={"origin": origin})
    assert answer.status_code == 403 and answer.json()["code"] == "forbidden"
    assert row_counts(client.app)["experiment"] == 0  # type: ignore[arg-type]


def test_changes_and_reads_from_our_own_pages_pass_and_from_others_do_not(client: TestClient) -> None:
    own = {"origin": "http://127.0.0.1:8300", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    assert client.post("/api/v1/experiments", json=experiment(), headers=own).status_code == 201
    assert client.get("/api/v1/experiments", headers=own).status_code == 200
    refused = client.get("/api/v1/experiments", headers={"origin": "http://evil.example"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
@pytest.mark.parametrize(
    "asked",
    [
        {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
        {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {},
    ],
)
def test_what_another_site_s_page_embeds_is_refused(client: TestClient, site: str, asked: dict[str, str]) -> None:
    for path in ("/", "/api/v1/experiments", "/static/app.css", "/healthz"):
        answer = client.get(path, headers={"sec-fetch-site": site, **asked})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none"])
def test_a_link_to_us_may_stand_anywhere_but_a_form_may_not(client: TestClient, site: str) -> None:
    headers = {"sec-fetch-site": site, **LINK}
    assert client.get("/", headers=headers).status_code == 200
    if site in ("cross-site", "same-site"):
        assert client.post("/api/v1/experiments", json=experiment(), headers=headers).status_code == 403


def test_every_route_but_healthz_needs_the_token(locked: TestClient) -> None:
    assert locked.get("/healthz").status_code == 200
    paths = ["/", "/readyz", "/api/v1/experiments", "/api/v1/openapi.json", "/api/docs", "/static/app.css", "/none"]
    for path in paths:
        answer = locked.get(path)
        assert answer.status_code == 401, path
        assert answer.json()["code"] == "unauthorized" and answer.headers["www-authenticate"] == "Bearer"
    assert locked.post("/api/v1/experiments", json=experiment()).status_code == 401


@pytest.mark.parametrize(("header", "status"), [(f"Bearer {TOKEN}", 200), ("Bearer x", 401), (TOKEN, 401), ("", 401)])
def test_bearer_token(locked: TestClient, header: str, status: int) -> None:
    assert locked.get("/api/v1/experiments", headers={"authorization": header}).status_code == status


def test_link_with_token_sets_a_cookie_that_is_not_the_token(locked: TestClient) -> None:
    answer = locked.get(f"/experiments?archived=true&token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/experiments?archived=true")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and TOKEN not in cookie
    assert locked.get("/api/v1/experiments").status_code == 200  # the client keeps the cookie


def test_link_cannot_redirect_elsewhere(locked: TestClient) -> None:
    answer = locked.get(f"http://127.0.0.1:8300//evil.example/x?token={TOKEN}")
    assert answer.headers["location"] == "/evil.example/x"


@pytest.mark.parametrize("query", ["?token=wrong", "?token=", "?Token=" + TOKEN])
def test_link_with_another_token_opens_nothing(locked: TestClient, query: str) -> None:
    answer = locked.get(f"/{query}")
    assert answer.status_code == 401 and "set-cookie" not in answer.headers


def test_token_in_the_address_of_a_change_opens_nothing(locked: TestClient) -> None:
    assert locked.post(f"/api/v1/experiments?token={TOKEN}", json=experiment()).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/experiments", "/none", "/api/docs"])
def test_every_answer_carries_the_policy(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_unforeseen_errors_tell_nothing_of_the_inside(client: TestClient) -> None:
    app: Any = client.app
    app.state.store.db.path.unlink()
    app.state.store.db.close()  # the next reader finds no database
    answer = client.get("/api/v1/workers")
    assert answer.status_code == 500 and answer.json()["code"] == "internal"
    assert "content-security-policy" in answer.headers
    assert "sqlite" not in answer.text.lower() and str(app.state.settings.home) not in answer.text
