"""The queue: which run is next, and which worker may have it.

A run goes to a worker that has its label and as many free GPUs as it leases; of those that fit, the
one with the highest priority, then the oldest. A run that came back is the oldest there is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from sqlmodel import Session, col, select

from nat_core.records import ACTIVE, RunState
from server.tables import RunRow, WorkerRow, utc_now

ALIVE_S = 60.0
"""A worker that was heard of within so long is there: it tells of itself six times as often."""


def queued(session: Session) -> Sequence[RunRow]:
    """The runs that wait, the next one first."""
    return session.exec(
        select(RunRow).where(RunRow.state == RunState.QUEUED).order_by(col(RunRow.priority).desc(), col(RunRow.id))
    ).all()


def places(session: Session, runs: Sequence[RunRow]) -> dict[str, int]:
    """Where in the queue the waiting ones among some runs are; the next one is at 1."""
    if not any(run.state == RunState.QUEUED for run in runs):
        return {}
    session.flush()
    ids = session.exec(
        select(RunRow.id).where(RunRow.state == RunState.QUEUED).order_by(col(RunRow.priority).desc(), col(RunRow.id))
    )
    return {run_id: place for place, run_id in enumerate(ids, 1)}


def next_for(session: Session, worker: WorkerRow, free_gpus: int) -> RunRow | None:
    """The run that a worker with so many free GPUs should take."""
    return next((run for run in queued(session) if fits(run, worker, free_gpus)), None)


def that_can_start(session: Session) -> list[str]:
    """The waiting runs that some worker could take now, as far as is known here: GPUs are leased on their machine."""
    busy = session.exec(select(RunRow).where(col(RunRow.state).in_(ACTIVE))).all()
    workers = {worker.id: worker for worker in session.exec(select(WorkerRow))}
    used: dict[str, int] = defaultdict(int)
    for run in busy:
        if run.worker_id in workers:
            worker = workers[run.worker_id]
            used[worker.hostname] += gpus_needed(run, worker)
    alive_since = utc_now() - timedelta(seconds=ALIVE_S)
    at_work = {run.worker_id for run in busy}
    idle = [worker for worker in workers.values() if worker.id not in at_work and worker.seen_at >= alive_since]
    return [
        run.id
        for run in queued(session)
        if any(fits(run, worker, num_gpus(worker) - used[worker.hostname]) for worker in idle)
    ]


def fits(run: RunRow, worker: WorkerRow, free_gpus: int) -> bool:
    label = run.spec.get("resources", {}).get("worker_label")
    return (label is None or label in worker.labels) and gpus_needed(run, worker) <= free_gpus


def gpus_needed(run: RunRow, worker: WorkerRow) -> int:
    """How many GPUs the run leases there."""
    resources = run.spec.get("resources", {})
    if resources.get("gpus") is not None:
        return int(resources["gpus"])
    return 0 if resources.get("device") == "cpu" else min(1, num_gpus(worker))


def num_gpus(worker: WorkerRow) -> int:
    found = worker.hardware.get("gpus")
    return len(found) if isinstance(found, list) else 0
