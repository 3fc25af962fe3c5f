"""Tokens made at the first start, and what each role may do with its own."""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from server.credentials import Role, cookie_name, cookie_value, may, token_file, with_tokens
from server.errors import StartError
from server.main import create_app
from server.settings import Settings
from tests.server.support import experiment

TOKENS = {
    Role.OPERATOR: "the-operators-own-token",
    Role.VIEWER: "the-viewers-own-token",
    Role.WORKER: "the-workers-own-token",
}


@pytest.fixture
def locked(tmp_path: Path, redis_url: str) -> TestClient:
    """A client, without a token, of a server that has one for every role."""
    settings = Settings(
        home=tmp_path / "locked",
        redis_url=redis_url,
        token=TOKENS[Role.OPERATOR],
        viewer_token=TOKENS[Role.VIEWER],
        worker_token=TOKENS[Role.WORKER],
    )
    app = create_app(settings)
    return TestClient(app, base_url="http://127.0.0.1:8300", raise_server_exceptions=False, follow_redirects=False)


def bearer(role: Role) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[role]}"}


def test_first_start_makes_a_token_for_each_role_that_only_the_owner_can_read(tmp_path: Path) -> None:
    first = with_tokens(Settings(home=tmp_path))
    tokens = {first.token, first.viewer_token, first.worker_token}
    assert len(tokens) == 3 and all(token is not None and len(token) >= 43 for token in tokens)
    for role in Role:
        assert stat.S_IMODE(token_file(tmp_path, role).stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["token", "viewer-token", "worker-token"]
    assert with_tokens(Settings(home=tmp_path)) == first  # the next start keeps them


def test_a_token_from_the_environment_comes_first_and_is_not_written_down(tmp_path: Path) -> None:
    settings = with_tokens(Settings(home=tmp_path, token="from-the-environment"))
    assert settings.token == "from-the-environment"
    assert not token_file(tmp_path, Role.OPERATOR).exists() and token_file(tmp_path, Role.WORKER).exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.WORKER])
def test_two_roles_with_one_token_stop_the_start(tmp_path: Path, role: Role) -> None:
    settings = Settings(home=tmp_path, token=TOKENS[Role.OPERATOR])
    token_file(tmp_path, role).write_text(f"{TOKENS[Role.OPERATOR]}\n")
    with pytest.raises(StartError, match="a token stands for one role"):
        with_tokens(settings)


def test_without_auth_nothing_is_made(tmp_path: Path) -> None:
    assert with_tokens(Settings(home=tmp_path, auth=False)).token is None
    assert list(tmp_path.iterdir()) == []


def test_a_token_file_that_others_could_read_is_closed(tmp_path: Path) -> None:
    token_file(tmp_path, Role.OPERATOR).write_text("a-token-that-lay-open\n")
    token_file(tmp_path, Role.OPERATOR).chmod(0o644)
    assert with_tokens(Settings(home=tmp_path)).token == "a-token-that-lay-open"
    assert stat.S_IMODE(token_file(tmp_path, Role.OPERATOR).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"short", b"two words, but long enough", b"\xff\xfe" * 20])
def test_a_token_file_that_holds_no_token_stops_the_start(tmp_path: Path, content: bytes) -> None:
    token_file(tmp_path, Role.VIEWER).write_bytes(content)
    with pytest.raises(StartError, match=r"viewer-token keeps a token, but .* remove it"):
        with_tokens(Settings(home=tmp_path))


def test_a_viewer_reads_and_changes_nothing(locked: TestClient) -> None:
    for path in ("/experiments", "/api/v1/runs", "/api/v1/openapi.json", "/api/docs"):
        assert locked.get(path, headers=bearer(Role.VIEWER)).status_code == 200, path
    refused = locked.post("/api/v1/experiments", json=experiment(), headers=bearer(Role.VIEWER))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "viewer's token" in refused.json()["detail"]
    assert locked.get("/api/v1/experiments", headers=bearer(Role.OPERATOR)).json()["items"] == []


def test_a_worker_s_token_opens_what_workers_do_and_no_more(locked: TestClient) -> None:
    launched = locked.post("/api/v1/experiments", json=experiment(), headers=bearer(Role.OPERATOR)).json()
    run = launched["runs"][0]["id"]
    mine = bearer(Role.WORKER)
    assert locked.put("/api/v1/workers/w-1", json={"hostname": "box"}, headers=mine).status_code == 200
    assert locked.post(f"/api/v1/runs/{run}/claim", json={"worker_id": "w-1"}, headers=mine).status_code == 200
    beat = {"attempt": 1, "step": 1}
    assert locked.post(f"/api/v1/runs/{run}/heartbeat", json=beat, headers=mine).status_code == 200
    assert locked.get("/api/v1/workers", headers=mine).status_code == 200
    for method, path in [
        ("POST", "/api/v1/experiments"),
        ("POST", f"/api/v1/runs/{run}/stop"),
        ("DELETE", f"/api/v1/runs/{run}"),
        ("GET", f"/api/v1/runs/{run}"),
        ("GET", "/experiments"),
    ]:
        assert locked.request(method, path, headers=mine).status_code == 403, (method, path)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER])
def test_a_link_opens_the_browser_in_its_role(locked: TestClient, role: Role) -> None:
    answer = locked.get(f"/experiments?archived=true&token={TOKENS[role]}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/experiments?archived=true")
    assert answer.headers["cache-control"] == "no-store"
    assert re.match(
        r"natlab-8300=[0-9a-f]{64}; HttpOnly; Max-Age=\d+; Path=/; SameSite=strict$", answer.headers["set-cookie"]
    )
    assert locked.get("/api/v1/experiments").status_code == 200  # the client keeps the cookie
    launched = locked.post("/api/v1/experiments", json=experiment())
    assert launched.status_code == (201 if role is Role.OPERATOR else 403)


def test_a_cookie_that_came_over_tls_never_goes_without(locked: TestClient) -> None:
    answer = locked.get(f"/?token={TOKENS[Role.OPERATOR]}", headers={"x-forwarded-proto": "https"})
    assert answer.headers["set-cookie"].endswith("; SameSite=strict; Secure")


def test_a_link_that_is_opened_again_leaves_the_address_again(locked: TestClient) -> None:
    link = f"/experiments?token={TOKENS[Role.OPERATOR]}"
    for _ in range(2):
        assert locked.get(link).headers["location"] == "/experiments"


def test_a_cookie_does_not_open_what_only_workers_do(locked: TestClient) -> None:
    locked.get(f"/?token={TOKENS[Role.OPERATOR]}")
    assert locked.put("/api/v1/workers/w-1", json={"hostname": "box"}).status_code == 403
    by_token = locked.put("/api/v1/workers/w-1", json={"hostname": "box"}, headers=bearer(Role.OPERATOR))
    assert by_token.status_code == 200


@pytest.mark.parametrize(
    "others",
    ['seen={"page": 1}', "name=two words", "lone", 'half="open', "user@box=1", "name=\xe4", "natlab-8300=of-another"],
)
def test_cookies_of_other_servers_on_this_machine_lock_nobody_out(locked: TestClient, others: str) -> None:
    ours = f"{cookie_name('127.0.0.1:8300')}={cookie_value(TOKENS[Role.OPERATOR])}"
    for cookies in (f"{others}; {ours}", f"{ours}; {others}"):
        answer = locked.get("/api/v1/runs", headers={"cookie": cookies.encode("latin-1")})  # type: ignore[dict-item]
        assert answer.status_code == 200, cookies
    assert locked.get("/api/v1/runs", headers={"cookie": others.encode("latin-1")}).status_code == 401  # type: ignore[dict-item]


def test_a_worker_s_token_is_no_link(locked: TestClient) -> None:
    answer = locked.get(f"/?token={TOKENS[Role.WORKER]}")
    assert answer.status_code == 401 and "set-cookie" not in answer.headers


def test_cookies_of_two_servers_on_one_machine_do_not_meet() -> None:
    names = {cookie_name(host) for host in ("127.0.0.1:8300", "127.0.0.1:8301", "lab.example")}
    assert len(names) == 3
    assert cookie_name("[::1") == "natlab-80"


def test_a_browser_without_a_key_is_told_where_to_find_one(locked: TestClient) -> None:
    page = locked.get("/experiments", headers={"accept": "text/html,application/xhtml+xml"})
    assert page.status_code == 401 and "natlab link" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]


def test_changing_a_token_shuts_out_the_old_cookie(locked: TestClient, tmp_path: Path) -> None:
    locked.get(f"/?token={TOKENS[Role.OPERATOR]}")
    settings = replace(locked.app.state.settings, home=tmp_path / "again", token="quite-another-token")  # type: ignore[attr-defined]
    again = TestClient(create_app(settings), base_url="http://127.0.0.1:8300", cookies=dict(locked.cookies))
    assert again.get("/api/v1/runs").status_code == 401


def test_a_path_that_only_looks_like_a_worker_s_is_not_one() -> None:
    assert may(Role.WORKER, "POST", "/api/v1/runs/run-0000000000/claim")
    for path in ("/api/v1/runs/a/b/claim", "/api/v1/runs//claim", "/api/v1/runs/x/claim/", "/x/api/v1/runs/x/claim"):
        assert not may(Role.WORKER, "POST", path)
    assert not may(Role.WORKER, "DELETE", "/api/v1/workers/w-1")
