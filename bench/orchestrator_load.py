"""Load for the orchestrator benchmark: a server's parts on a fresh database, and runs that report plausible metrics."""

from __future__ import annotations

import math
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import uvicorn
from fastapi import FastAPI

from client.valkey import arguments, binary
from nat_core.events import MetricsEvent
from nat_core.spec import FullBudget, demo_experiment
from server.ingest import STREAM, Batch
from server.life import RunLife
from server.main import create_app
from server.settings import Settings
from server.store import Store

KEYS = (
    "reward",
    "reward_std",
    "tokens/generated",
    "tokens/selected",
    "budget/fraction",
    "timing_s/step",
    "timing_s/update",
    "perf/peak_memory_gib",
    "grad_norm",
    "entropy",
)
"""Ten metrics of one step are ten points."""


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """A Valkey as `natlab up` starts it; its address."""
    path = folder / "v.sock"
    argv = [str(binary()), *arguments(folder, path)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        wait_until(path.exists)
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def fresh_app() -> Iterator[FastAPI]:
    """The application on a database and a Valkey of its own, its threads not started."""
    with tempfile.TemporaryDirectory(prefix="nlb") as name, valkey(Path(name)) as url:
        app = create_app(Settings(home=Path(name) / "home", redis_url=url, max_queued=1_000_000))
        yield app
        app.state.broker.close()
        app.state.store.close()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on a real port, in a thread; its address."""
    # Named TCP as the server's own: asyncio else leaves Nagle's algorithm on, which holds back small answers for 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        app.state.hub.close()
        server.should_exit = True
        thread.join(10)


def running_runs(store: Store, count: int, steps: int) -> list[str]:
    """So many claimed runs, fifty to an experiment."""
    life, run_ids = RunLife(store), []
    store.register_worker("bench", "bench", {})
    for first in range(0, count, 50):
        seeds = range(first, min(count, first + 50))
        spec = demo_experiment(steps=steps, seeds=tuple(seeds))
        spec = spec.model_copy(update={"name": f"Bench {first}", "budgets": [FullBudget()]})
        run_ids += [run.id for run in store.create_experiment(spec, announce=lambda _: None).runs]
    for run_id in run_ids:
        life.claim(run_id, "bench")
    return run_ids


def step_metrics(step: int) -> MetricsEvent:
    """What one step reports; numbers with as many digits as real ones."""
    values = {key: math.sin(step / 50 + place) * (place + 1.1) for place, key in enumerate(KEYS)}
    return MetricsEvent(seq=step, time=1.0e9 + step, step=step, values=values)


def batches(run_id: str, steps: int, size: int) -> Iterator[Batch]:
    """A run's steps, `size` to a batch."""
    for first in range(1, steps + 1, size):
        yield Batch(run_id, 1, [step_metrics(step) for step in range(first, min(steps + 1, first + size))])


def fill_stream(connection: redis.Redis, run_ids: Sequence[str], steps: int, size: int) -> None:
    """The same on its way: as stream entries, the runs taking turns as they would."""
    for first in range(1, steps + 1, size):
        events = [step_metrics(step) for step in range(first, min(steps + 1, first + size))]
        text = "[" + ",".join(event.model_dump_json() for event in events) + "]"
        with connection.pipeline(transaction=False) as pipe:
            for run_id in run_ids:
                pipe.xadd(STREAM, {"run": run_id, "attempt": "1", "folder": "", "events": text})
            pipe.execute()


def wait_until(condition: Callable[[], Any], timeout_s: float = 300.0, every_s: float = 0.01) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError("the server did not get there in time")
        time.sleep(every_s)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
