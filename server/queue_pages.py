"""The page of workers and the queue."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlmodel import Session, col, func, or_, select

from nat_core.records import ACTIVE, RunState
from server import queue, views
from server.page_route import PageRoute
from server.reading import StoreDep
from server.tables import ExperimentRow, RunRow, WorkerRow, utc_now
from web.queue_pages import WaitingRun, needs_text, queue_rows, worker_row, workers_page

_MAX_SHOWN = 100

router = APIRouter(include_in_schema=False, route_class=PageRoute, default_response_class=HTMLResponse)


@router.get("/workers")
def workers(store: StoreDep) -> str:
    now = utc_now()
    rows = [
        worker_row(worker, store.get_run(worker.run_id) if worker.run_id else None, now)
        for worker in store.list_workers()
    ]
    with store.db.read() as session:
        waiting, total = _waiting(session)
    return workers_page(rows, queue_rows(waiting, rows), total)


def _waiting(session: Session) -> tuple[list[WaitingRun], int]:
    """The first waiting runs in the order in which they are taken, and how many wait in all."""
    query = select(RunRow).where(RunRow.state == RunState.QUEUED)
    runs = session.exec(query.order_by(*queue.ORDER).limit(_MAX_SHOWN)).all()
    total = session.exec(select(func.count()).select_from(query.subquery())).one()
    ids = {run.experiment_id for run in runs}
    names = dict(session.exec(select(ExperimentRow.id, ExperimentRow.name).where(col(ExperimentRow.id).in_(ids))).all())
    next_ones = set(queue.that_can_start(session))
    alive_since = utc_now() - timedelta(seconds=queue.ALIVE_S)
    at_work = select(RunRow.worker_id).where(col(RunRow.state).in_(ACTIVE))
    is_there = or_(col(WorkerRow.seen_at) >= alive_since, col(WorkerRow.id).in_(at_work))
    there = session.exec(select(WorkerRow).where(is_there)).all()
    return [
        WaitingRun(
            run=views.run_record(run, {run.id: place}),
            experiment=names.get(run.experiment_id, run.experiment_id),
            needs=needs_text(run.spec["resources"]),
            is_next=run.id in next_ones,
            has_worker=queue.could_ever_start(run.spec["resources"], there),
        )
        for place, run in enumerate(runs, start=1)
    ], total
