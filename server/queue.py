"""The queue: which run is next, and which worker may have it.

A run goes to a worker that has its label and as many free GPUs as it leases; of those that fit, the
one with the highest priority, then the oldest. A run that came back is the oldest there is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, type_coerce
from sqlmodel import Session, col, func, select

from nat_core.records import ACTIVE, RunState, is_alive
from server.errors import QueueFullError
from server.tables import RunRow, WorkerRow, utc_now

ORDER = (col(RunRow.priority).desc(), col(RunRow.id))
_RESOURCES = type_coerce(RunRow.spec, JSON)["resources"]


@dataclass(frozen=True)
class Waiting:
    """A run that waits, as far as matching goes: whole specs of a long queue are slow to read."""

    id: str
    resources: dict[str, Any]


def queued(session: Session) -> list[Waiting]:
    """The runs that wait, the next one first."""
    rows = session.exec(select(RunRow.id, _RESOURCES).where(RunRow.state == RunState.QUEUED).order_by(*ORDER))
    return [Waiting(run_id, resources) for run_id, resources in rows]


def places(session: Session, runs: Sequence[RunRow]) -> dict[str, int]:
    """Where in the queue the waiting ones among some runs are; the next one is at 1."""
    if not any(run.state == RunState.QUEUED for run in runs):
        return {}
    session.flush()
    ids = session.exec(select(RunRow.id).where(RunRow.state == RunState.QUEUED).order_by(*ORDER))
    return {run_id: place for place, run_id in enumerate(ids, 1)}


def next_for(session: Session, worker: WorkerRow, free_gpus: int, resting: Container[str] = ()) -> str | None:
    """The run that a worker with so many free GPUs should take; none of those that rest."""
    waiting = (run for run in queued(session) if run.id not in resting)
    return next((run.id for run in waiting if fits(run.resources, worker, free_gpus)), None)


def that_can_start(session: Session, resting: Container[str] = ()) -> list[str]:
    """The waiting runs that some worker could take now, as far as is known here: GPUs are leased on their machine."""
    workers = {worker.id: worker for worker in session.exec(select(WorkerRow))}
    used: dict[tuple[str, str], int] = defaultdict(int)
    at_work = set()
    for worker_id, resources in session.exec(select(RunRow.worker_id, _RESOURCES).where(col(RunRow.state).in_(ACTIVE))):
        if (worker := workers.get(worker_id or "")) is not None:
            at_work.add(worker.id)
            used[_machine(worker)] += gpus_needed(resources, worker)
    now = utc_now()
    idle = [worker for worker in workers.values() if worker.id not in at_work and is_alive(worker.seen_at, now)]
    free = {worker.id: num_gpus(worker) - used[_machine(worker)] for worker in idle}
    if not idle:
        return []
    waiting = (run for run in queued(session) if run.id not in resting)
    return [run.id for run in waiting if any(fits(run.resources, worker, free[worker.id]) for worker in idle)]


def fits(resources: dict[str, Any], worker: WorkerRow, free_gpus: int) -> bool:
    label = resources.get("worker_label")
    return (label is None or label in worker.labels) and gpus_needed(resources, worker) <= free_gpus


def could_ever_start(resources: dict[str, Any], workers: Sequence[WorkerRow]) -> bool:
    """Whether any of these workers would take such a run if it had nothing else to do."""
    return any(fits(resources, worker, num_gpus(worker)) for worker in workers)


def gpus_needed(resources: dict[str, Any], worker: WorkerRow) -> int:
    """How many GPUs a run with these resources leases there."""
    if resources.get("gpus") is not None:
        return int(resources["gpus"])
    return 0 if resources.get("device") == "cpu" else min(1, num_gpus(worker))


def _machine(worker: WorkerRow) -> tuple[str, str]:
    """What workers share that lease the same GPUs: leases are locks in their data folder."""
    return worker.home, worker.hostname


def num_gpus(worker: WorkerRow) -> int:
    found = worker.hardware.get("gpus")
    return len(found) if isinstance(found, list) else 0


def demand_room(session: Session, more: int, most: int) -> None:
    """Refuse `more` runs where they and those that wait are over `most`."""
    queued = session.exec(select(func.count()).where(RunRow.state == RunState.QUEUED)).one()
    if queued + more > most:
        raise QueueFullError(
            f"{queued} runs wait and these are {more} more, but at most {most} may; wait, stop some, "
            "or set NATLAB_MAX_QUEUED"
        )
