"""A real server on a real port with a real Valkey, and a worker's parts around a fake trainer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from fastapi import FastAPI

from tests.server.conftest import Api, app, redis_url, session_redis_url, settings  # noqa: F401  (fixtures)
from tests.server.support import served
from worker.client import ServerClient
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

FAKE_TRAINER = (sys.executable, str(Path(__file__).with_name("fake_trainer.py")))


@pytest.fixture
def server_url(app: FastAPI) -> Iterator[str]:  # noqa: F811
    with served(app) as url:
        yield url


@pytest.fixture
def api(server_url: str) -> Iterator[Api]:
    with httpx.Client(base_url=server_url) as http:
        yield Api(http)


@pytest.fixture
def worker_settings(tmp_path: Path, redis_url: str, server_url: str) -> WorkerSettings:  # noqa: F811
    return WorkerSettings(
        home=tmp_path / "home",
        redis_url=redis_url,
        server_url=server_url,
        heartbeat_s=0.1,
        tail_s=0.03,
        resend_s=0.3,
        stop_grace_s=1.0,
        shutdown_grace_s=0.5,
    )


@pytest.fixture
def leaving() -> threading.Event:
    return threading.Event()


@pytest.fixture
def supervisor(worker_settings: WorkerSettings, leaving: threading.Event, api: Api) -> Iterator[Supervisor]:
    """A registered worker's supervisor, whose trainer is the fake one."""
    client = ServerClient(worker_settings.server_url)
    client.register("w-1", "box", {})
    with redis.Redis.from_url(worker_settings.redis_url) as connection:
        yield Supervisor(worker_settings, client, connection, "w-1", leaving, FAKE_TRAINER)
    client.close()
