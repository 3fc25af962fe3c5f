"""Why runs wait, in the words that the page of the queue and the API share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter
from sqlmodel import Session, col, select

from nat_core.records import ACTIVE, RunState, is_alive
from nat_core.spec import BudgetSpec
from server import queue, views
from server.tables import ExperimentRow, RunRow, WorkerRow, utc_now
from web.queue_pages import WaitingRun, needs_text, why_it_waits

_BUDGET: TypeAdapter[BudgetSpec] = TypeAdapter(BudgetSpec)


def workers_there(session: Session) -> Sequence[WorkerRow]:
    """The workers that were heard of lately, or have a run that speaks for them."""
    at_work = set(session.exec(select(RunRow.worker_id).where(col(RunRow.state).in_(ACTIVE))))
    now = utc_now()
    return [row for row in session.exec(select(WorkerRow)) if row.id in at_work or is_alive(row.seen_at, now)]


def waiting_runs(
    session: Session,
    runs: Sequence[RunRow],
    places: Mapping[str, int],
    workers: Sequence[WorkerRow],
    rests: Mapping[str, float],
) -> list[WaitingRun]:
    """What some queued runs need, and whether these workers have it; `rests` are the seconds that some rest for."""
    ids = {run.experiment_id for run in runs}
    names = dict(session.exec(select(ExperimentRow.id, ExperimentRow.name).where(col(ExperimentRow.id).in_(ids))).all())
    next_ones = set(queue.that_can_start(session, rests))
    return [
        WaitingRun(
            run=views.run_record(run, places),
            experiment=names.get(run.experiment_id, run.experiment_id),
            needs=needs_text(run.spec["resources"]),
            is_next=run.id in next_ones,
            has_worker=queue.could_ever_start(run.spec["resources"], workers),
            biased=_BUDGET.validate_python(run.spec["budget"]).biased,
            rests_s=rests.get(run.id),
        )
        for run in runs
    ]


def why(session: Session, run: RunRow, places: Mapping[str, int], rests: Mapping[str, float]) -> str | None:
    """Why this run waits; None where it does not."""
    if run.state != RunState.QUEUED:
        return None
    workers = workers_there(session)
    (waiting,) = waiting_runs(session, [run], places, workers, rests)
    return why_it_waits(waiting, places[run.id], anybody=bool(workers))
