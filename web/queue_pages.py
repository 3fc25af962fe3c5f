"""Workers and the queue: what runs where, what waits, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nat_core.records import RunRecord, WorkerRecord
from web import views
from web.badges import Badge
from web.formatting import elapsed_s, plural, sentence
from web.templating import render

ALIVE_WITHIN_S = 60.0
"""A worker that is silent for longer, and has no run that speaks for it, counts as gone."""


@dataclass(frozen=True)
class WorkerRow:
    """A worker with what it is doing."""

    worker: WorkerRecord
    hardware: str
    run: RunRecord | None
    badge: Badge


@dataclass(frozen=True)
class QueueRow:
    """A waiting run: its place from 1, and why it is not running."""

    place: int
    run: RunRecord
    experiment: str
    why: str


def worker_row(worker: WorkerRecord, run: RunRecord | None, now: datetime) -> WorkerRow:
    if run is not None:
        badge = Badge("run", "play", "at work")
    elif elapsed_s(worker.seen_at, now) > ALIVE_WITHIN_S:
        badge = Badge("warn", "alert", "silent")
    else:
        badge = Badge("mute", "dash", "idle")
    return WorkerRow(worker, views.hardware_text(worker.hardware), run, badge)


def queue_rows(queued: Sequence[RunRecord], names: Mapping[str, str], workers: Sequence[WorkerRow]) -> list[QueueRow]:
    """The waiting runs in the order in which they are taken."""
    return [
        QueueRow(place, run, names.get(run.experiment_id, run.experiment_id), _why(run, place, workers))
        for place, run in enumerate(queued, start=1)
    ]


def _why(run: RunRecord, place: int, workers: Sequence[WorkerRow]) -> str:
    back = sentence(f"back in the queue: {run.message}") + " " if run.message else ""
    idle = sum(row.badge.word == "idle" for row in workers)
    busy = sum(row.run is not None for row in workers)
    if not idle and not busy:
        return f"{back}No worker is there."
    if place <= idle:
        return f"{back}An idle worker is about to take it."
    ahead = plural(place - 1, "run") + (" is" if place == 2 else " are")
    told = "it is the next one" if place == 1 else f"{ahead} ahead of it"
    return f"{back}{sentence(f'every worker is busy; {told}')}"


def workers_page(workers: Sequence[WorkerRow], queue: Sequence[QueueRow], num_queued: int) -> str:
    return render("workers.html", section="workers", workers=workers, queue=queue, num_queued=num_queued)
