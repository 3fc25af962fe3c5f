"""A real server on a real port with a real Valkey, and a worker's parts around a fake trainer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from fastapi import FastAPI

from server.settings import Settings
from tests.server.conftest import Api, app, redis_url, session_redis_url, settings  # noqa: F401  (fixtures)
from tests.server.support import served
from worker.client import ServerClient
from worker.identity import Identity
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

FAKE_TRAINER = (sys.executable, str(Path(__file__).with_name("fake_trainer.py")))
FAKE_SPARE = (sys.executable, str(Path(__file__).with_name("fake_spare.py")))

ME = Identity("w-1", home="", instance="")

Start = Callable[..., "subprocess.Popen[str]"]


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
    client.register(ME, "box", {})
    with redis.Redis.from_url(worker_settings.redis_url) as connection:
        yield Supervisor(worker_settings, client, connection, ME, leaving, FAKE_TRAINER)
    client.close()


@pytest.fixture
def start(settings: Settings, redis_url: str, server_url: str) -> Iterator[Start]:  # noqa: F811
    """Start a worker whose trainer is the fake one, and its spare too, where it is to keep one."""
    started: list[subprocess.Popen[str]] = []

    def start(spare: tuple[str, ...] | None = None, **variables: str) -> subprocess.Popen[str]:
        program = f"import sys; from worker.__main__ import main; sys.exit(main({FAKE_TRAINER!r}, {spare!r}))"
        env = {
            **os.environ,
            "NATLAB_HOME": str(settings.home),
            "NATLAB_REDIS_URL": redis_url,
            "NATLAB_SERVER_URL": server_url,
            "NATLAB_HEARTBEAT_S": "0.2",
            **variables,
        }
        started.append(subprocess.Popen([sys.executable, "-c", program], env=env, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
