"""A real Valkey for the session, a fresh database and application for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server.settings import Settings
from tests.server.support import experiment, opened, valkey


@pytest.fixture(scope="session")
def session_redis_url() -> Iterator[str]:
    with valkey() as url:
        yield url


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """One event loop for the requests of all tests: a new one for each takes longer than most answers."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def redis_url(session_redis_url: str) -> str:
    """The session's Valkey, emptied."""
    with redis.Redis.from_url(session_redis_url) as connection:
        connection.flushall()
    return session_redis_url


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    return Settings(home=tmp_path / "home", redis_url=redis_url)


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    """The application; its threads run only where a test enters its lifespan."""
    with opened(settings) as app:
        yield app


@pytest.fixture
def client(app: FastAPI, portal: BlockingPortal) -> TestClient:
    """Talks to the application without a network, and without its background threads."""
    client = TestClient(app, base_url="http://127.0.0.1:8300", raise_server_exceptions=False)
    client.portal = portal
    return client


class Api:
    """What tests say over and over, each in one call; every answer must be a success."""

    def __init__(self, client: httpx.Client | TestClient) -> None:
        self._client: Any = client

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = self._client.request(method, f"/api/v1{path}", **kwargs)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def launch(self, **fields: Any) -> Any:
        return self.call("POST", "/experiments", json=experiment(**fields))

    def one_run(self) -> str:
        """A queued run; its id."""
        run_id: str = self.launch(budgets=[{"selector": "full"}])["runs"][0]["id"]
        return run_id

    def claim(self, run_id: str, worker_id: str = "w-1") -> int:
        self.call("PUT", f"/workers/{worker_id}", json={"hostname": "box", "hardware": {"cores": 2}})
        attempt: int = self.call("POST", f"/runs/{run_id}/claim", json={"worker_id": worker_id})["attempt"]
        return attempt

    def beat(self, run_id: str, attempt: int = 1, step: int = 0) -> Any:
        return self.call("POST", f"/runs/{run_id}/heartbeat", json={"attempt": attempt, "step": step})

    def finish(self, run_id: str, outcome: str = "succeeded", attempt: int = 1, **fields: Any) -> Any:
        return self.call("POST", f"/runs/{run_id}/finish", json={"attempt": attempt, "outcome": outcome, **fields})

    def run(self, run_id: str) -> Any:
        return self.call("GET", f"/runs/{run_id}")


@pytest.fixture
def api(client: TestClient) -> Api:
    return Api(client)


@pytest.fixture
def problem(client: TestClient) -> Callable[..., Any]:
    """Send a request that must fail with this status and code; the problem document."""

    def send(status: int, code: str, method: str, path: str, **kwargs: Any) -> Any:
        answer = client.request(method, path if path.startswith("/api") else f"/api/v1{path}", **kwargs)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        document = answer.json()
        assert (document["status"], document["code"]) == (status, code)
        return document

    return send
