"""Workers and the queue: what runs where, what waits, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nat_core.records import RunDetail, RunRecord, WorkerRecord
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
    gpus: str
    hardware: str
    run: RunDetail | None
    badge: Badge


@dataclass(frozen=True)
class WaitingRun:
    """A run that waits: what it needs of a worker, and whether one that is there has that at all, or now.

    `rests_s`: for so many seconds it is given to nobody, since its folder was found in use.
    """

    run: RunRecord
    experiment: str
    needs: str
    is_next: bool
    has_worker: bool
    biased: bool = False
    rests_s: float | None = None


@dataclass(frozen=True)
class QueueRow:
    """A waiting run with its place from 1, and why it is not running."""

    place: int
    run: RunRecord
    experiment: str
    why: str
    biased: bool


def is_heard_of(worker: WorkerRecord, now: datetime) -> bool:
    """Whether it spoke lately. A later moment than now is from before the clock was set back, however long ago."""
    return abs(elapsed_s(worker.seen_at, now)) <= ALIVE_WITHIN_S


def worker_row(worker: WorkerRecord, run: RunDetail | None, now: datetime) -> WorkerRow:
    if run is not None:
        badge = Badge("run", "play", "at work")
    elif not is_heard_of(worker, now):
        badge = Badge("warn", "alert", "silent")
    else:
        badge = Badge("mute", "dash", "idle")
    return WorkerRow(worker, _gpus(worker.hardware), views.hardware_text(worker.hardware), run, badge)


def _gpus(hardware: Mapping[str, Any]) -> str:
    """`2 × NVIDIA H200`; empty where there is none."""
    found = hardware.get("gpus")
    names = [str(gpu.get("name", "GPU")) for gpu in found if isinstance(gpu, dict)] if isinstance(found, list) else []
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))


def needs_text(resources: Mapping[str, Any]) -> str:
    """What a run asks of its worker: `2 GPUs, label big`; empty where any will do."""
    gpus, label = resources.get("gpus"), resources.get("worker_label")
    parts = [plural(gpus, "GPU")] if gpus else []
    return ", ".join([*parts, f"label {label}"] if label else parts)


def queue_rows(waiting: Sequence[WaitingRun], workers: Sequence[WorkerRow]) -> list[QueueRow]:
    """The waiting runs in the order in which they are taken."""
    anybody = any(row.badge.word != "silent" for row in workers)
    return [
        QueueRow(place, one.run, one.experiment, _why(one, place, anybody), one.biased)
        for place, one in enumerate(waiting, 1)
    ]


def _why(waiting: WaitingRun, place: int, anybody: bool) -> str:
    message = waiting.run.message
    back = sentence(f"back in the queue: {message}") + " " if message else ""
    return back + why_it_waits(waiting, place, anybody)


def why_it_waits(waiting: WaitingRun, place: int, anybody: bool) -> str:
    """A sentence on what a queued run waits for; `anybody` says whether there are workers at all."""
    if not anybody:
        return "No worker is there."
    if not waiting.has_worker:
        return f"No worker that is there has what it needs: {waiting.needs or 'a free GPU'}."
    if waiting.rests_s is not None:
        return f"Its folder was in use; it is tried again in {math.ceil(waiting.rests_s)} s."
    if waiting.is_next:
        return "An idle worker is about to take it."
    ahead = plural(place - 1, "run") + (" is" if place == 2 else " are")
    told = "it is the next one" if place == 1 else f"{ahead} ahead of it"
    return sentence(f"every worker that fits is busy; {told}")


def workers_page(workers: Sequence[WorkerRow], queue: Sequence[QueueRow], num_queued: int) -> str:
    return render("workers.html", section="workers", workers=workers, queue=queue, num_queued=num_queued)
