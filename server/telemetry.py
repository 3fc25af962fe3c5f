"""What monitoring reads at `/metrics`, in Prometheus' text format: the queue, runs, ingest, tokens, steps, memory.

Numbers of one run carry its id as a label, and only while it is active, so that their count stays small.
Counters begin at 0 with the server, as Prometheus expects of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sqlmodel import Session, col, func, select

from nat_core.events import AnyEvent, MetricsEvent
from nat_core.records import ACTIVE, RunState
from nat_core.version import __version__
from server.tables import RunRow, WorkerRow

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_GIB = 2.0**30

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """One metric with a value for each set of labels."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    samples: list[tuple[Labels, float]]

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.samples:
            told = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            yield f"{self.name}{{{told}}} {value:.17g}" if told else f"{self.name} {value:.17g}"


@dataclass
class Tally:
    """What was stored since the server's start, counted as it is stored; steps that a restart repeats count again."""

    events: int = 0
    steps: int = 0
    tokens: dict[str, float] = field(default_factory=lambda: {"generated": 0.0, "selected": 0.0, "saved": 0.0})
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, events: Iterable[AnyEvent]) -> None:
        """Count events that are new. Saved are live tokens that were not selected."""
        with self._lock:
            for event in events:
                self.events += 1
                if isinstance(event, MetricsEvent):
                    self._add_step(event.values)

    def _add_step(self, values: Mapping[str, float | None]) -> None:
        generated, selected = values.get("tokens/generated") or 0.0, values.get("tokens/selected") or 0.0
        live = values.get("tokens/live")
        self.steps += 1
        self.tokens["generated"] += generated
        self.tokens["selected"] += selected
        self.tokens["saved"] += max(0.0, (generated if live is None else live) - selected)

    def families(self) -> Iterator[Family]:
        with self._lock:
            events, steps, tokens = float(self.events), float(self.steps), dict(self.tokens)
        yield Family("natlab_events_stored_total", "counter", "Events of trainers stored.", [({}, events)])
        yield Family("natlab_steps_total", "counter", "Training steps reported.", [({}, steps)])
        yield Family(
            "natlab_tokens_total",
            "counter",
            "Completion tokens of reported steps: generated, selected for training, and saved (live but not selected).",
            [({"kind": kind}, count) for kind, count in tokens.items()],
        )


def of_database(session: Session) -> Iterator[Family]:
    """Runs by state; step, step time and memory of the active ones; workers and their GPUs."""
    counts = dict(session.exec(select(RunRow.state, func.count()).group_by(col(RunRow.state))).all())
    yield Family(
        "natlab_runs",
        "gauge",
        "Runs by state.",
        [({"state": s.value}, float(counts.get(s.value, 0))) for s in RunState],
    )
    active = session.exec(select(RunRow).where(col(RunRow.state).in_(ACTIVE))).all()
    yield Family("natlab_run_step", "gauge", "Steps finished.", [(_of(run), float(run.step)) for run in active])
    yield _latest(active, "timing_s/step", "natlab_run_step_seconds", "Time of the newest step, without evaluation.", 1)
    yield _latest(
        active,
        "perf/peak_memory_gib",
        "natlab_run_peak_memory_bytes",
        "Peak memory of the newest step's update: allocated on a GPU; on a CPU the process's growth.",
        _GIB,
    )
    yield _latest(
        active,
        "system/gpu_memory_gib",
        "natlab_run_gpu_memory_bytes",
        "GPU memory in use on the fullest of its GPUs, as sampled last.",
        _GIB,
    )
    workers = session.exec(select(WorkerRow)).all()
    yield Family(
        "natlab_worker_seen_timestamp_seconds",
        "gauge",
        "When a worker was last heard of.",
        [({"worker": worker.id}, worker.seen_at.timestamp()) for worker in workers],
    )
    yield Family("natlab_gpu_memory_bytes", "gauge", "Memory that a worker's GPU has.", list(_gpus(workers)))


def of_stream(pending: int, lag_s: float, waiting: int) -> Iterator[Family]:
    """The queue, and what has not come from Redis into the database yet."""
    yield Family("natlab_queue_depth", "gauge", "Calls for a worker that none has taken.", [({}, float(waiting))])
    yield Family("natlab_ingest_pending_entries", "gauge", "Batches of events in Redis.", [({}, float(pending))])
    yield Family("natlab_ingest_lag_seconds", "gauge", "Age of the oldest of them.", [({}, lag_s)])


def of_server(redis_up: bool, ingestor_up: bool, listeners: int) -> Iterator[Family]:
    yield Family("natlab_info", "gauge", "The server's version.", [({"version": __version__}, 1.0)])
    yield Family("natlab_redis_up", "gauge", "Whether Redis answers.", [({}, float(redis_up))])
    yield Family("natlab_ingestor_up", "gauge", "Whether the ingestor runs.", [({}, float(ingestor_up))])
    yield Family("natlab_stream_clients", "gauge", "Open live streams.", [({}, float(listeners))])


def page(families: Iterable[Family]) -> str:
    return "".join(f"{line}\n" for family in families for line in family.lines())


def _latest(runs: Iterable[RunRow], key: str, name: str, help: str, scale: float) -> Family:
    found = [(run, run.latest.get(key)) for run in runs]
    return Family(name, "gauge", help, [(_of(run), scale * value) for run, value in found if value is not None])


def _of(run: RunRow) -> Labels:
    device = str((run.hardware or {}).get("device", ""))
    return {"run": run.id, "experiment": run.experiment_id, "attempt": str(run.attempt), "device": device}


def _gpus(workers: Iterable[WorkerRow]) -> Iterator[tuple[Labels, float]]:
    """What workers told of their GPUs; what does not look like one is left out."""
    for worker in workers:
        gpus = worker.hardware.get("gpus")
        for place, gpu in enumerate(gpus if isinstance(gpus, list) else []):
            memory = gpu.get("memory_gib") if isinstance(gpu, dict) else None
            if isinstance(memory, int | float):
                labels = {"worker": worker.id, "gpu": str(gpu.get("index", place)), "name": str(gpu.get("name", ""))}
                yield labels, memory * _GIB


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
