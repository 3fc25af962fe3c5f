"""Load for the pages' benchmark: a full database built through the store, the real server on it, runs that stream."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis

from bench.orchestrator_load import step_metrics, wait_until
from nat_core.events import AnyEvent, EvaluationEvent
from nat_core.records import ExperimentRecord, RunRecord
from nat_core.spec import CompletionsBudget, ExperimentSpec, FullBudget, RpcBudget, UrsBudget, demo_experiment
from server.ingest import STREAM, Batch, store_batches
from server.life import RunLife
from server.main import create_app
from server.settings import Settings

_BUDGETS = [FullBudget(), RpcBudget(), RpcBudget(fraction=0.25), UrsBudget(), CompletionsBudget()]
_SEEDS = 10
_BATCH = 2_000
_WORKER = "bench"


@dataclass(frozen=True)
class Lab:
    """What the database holds: experiments of long runs, of short ones, and one whose runs go on."""

    long: list[ExperimentRecord]
    live: ExperimentRecord


def build(home: Path, redis_url: str, num_runs: int, num_long: int, steps: int, live_steps: int) -> Lab:
    """`num_runs` finished runs, fifty to an experiment, `num_long` of them with so many steps; and 20 that go on."""
    app = create_app(Settings(home=home, redis_url=redis_url, max_queued=1_000_000))
    store = app.state.store
    life = RunLife(store)
    store.register_worker(_WORKER, _WORKER, {"memory_gib": 64.0})

    def experiment(name: str, steps: int, upto: int, seeds: int, ends: bool = True) -> ExperimentRecord:
        record: ExperimentRecord = store.create_experiment(_spec(name, steps, seeds), announce=lambda _: None)
        for run in record.runs:
            life.claim(run.id, _WORKER)
            for first in range(1, upto + 1, _BATCH):
                store_batches(store, [Batch(run.id, 1, events(run, first, min(first + _BATCH - 1, upto), upto))])
            if ends:
                life.finish(run.id, 1, "succeeded")
        return record

    each = len(_BUDGETS) * _SEEDS
    for number in range((num_runs - num_long) // each):
        experiment(f"Short {number}", 20, 20, _SEEDS)
    long = [experiment(f"Long {number}", steps, steps, _SEEDS) for number in range(num_long // each)]
    live = experiment("Going on", 100 * live_steps, live_steps, 4, ends=False)
    app.state.broker.close()
    store.close()
    return Lab(long, live)


def _spec(name: str, steps: int, seeds: int) -> ExperimentSpec:
    demo = demo_experiment(steps=steps, seeds=tuple(range(seeds)))
    return demo.model_copy(update={"name": name, "budgets": _BUDGETS})


def events(run: RunRecord, first: int, last: int, whole: int) -> list[AnyEvent]:
    """What a run reports of these steps: metrics of each, and twenty evaluations over the whole; event n is step n."""
    every = max(1, whole // 20)
    return [_evaluation(run, step) if step % every == 0 else step_metrics(step) for step in range(first, last + 1)]


def _evaluation(run: RunRecord, step: int) -> EvaluationEvent:
    accuracy = 0.8 - 0.3 * math.exp(-step / 100) + 0.01 * math.sin(7 * run.seed + run.cell)
    return EvaluationEvent(
        seq=step,
        time=1.0e9 + step,
        step=step,
        accuracy=accuracy,
        num_prompts=128,
        num_samples=1,
        correct=[int(i < 128 * accuracy) for i in range(128)],
        mean_length=70.0,
        seconds=1.0,
    )


@contextmanager
def server(home: Path, redis_url: str) -> Iterator[str]:
    """`python -m server` as a process of its own; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = os.environ | {
        "NATLAB_HOME": str(home),
        "NATLAB_REDIS_URL": redis_url,
        "NATLAB_PORT": str(port),
        "NATLAB_AUTH": "none",
        "NATLAB_LEASE_S": "3600",
    }
    url = f"http://127.0.0.1:{port}"
    with (home.parent / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "server"], env=environment, stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(url), 60)
            yield url
        finally:
            process.terminate()
            process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def streaming(redis_url: str, runs: Sequence[RunRecord], done: int, per_s: float) -> Iterator[None]:
    """Every run reports so many steps a second, after the `done` ones, as workers would."""
    over = threading.Event()

    def feed() -> None:
        with redis.Redis.from_url(redis_url) as connection:
            step = done
            while not over.wait(1 / per_s):
                step += 1
                text = f"[{step_metrics(step).model_copy(update={'time': time.time()}).model_dump_json()}]"
                with connection.pipeline(transaction=False) as pipe:
                    for run in runs:
                        pipe.xadd(STREAM, {"run": run.id, "attempt": "1", "folder": "", "events": text})
                    pipe.execute()

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
