"""The page of workers and the queue."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlmodel import col, func, select

from nat_core.records import RunRecord, RunState
from server import views
from server.page_route import PageRoute
from server.reading import StoreDep
from server.store import Store
from server.tables import ExperimentRow, RunRow, utc_now
from web.queue_pages import queue_rows, worker_row, workers_page

_MAX_SHOWN = 100

router = APIRouter(include_in_schema=False, route_class=PageRoute, default_response_class=HTMLResponse)


@router.get("/workers")
def workers(store: StoreDep) -> str:
    now = utc_now()
    rows = [
        worker_row(worker, store.get_run(worker.run_id) if worker.run_id else None, now)
        for worker in store.list_workers()
    ]
    queued, names, total = _queue(store)
    return workers_page(rows, queue_rows(queued, names, rows), total)


def _queue(store: Store) -> tuple[list[RunRecord], dict[str, str], int]:
    """The first waiting runs, the names of their experiments, and how many wait in all."""
    waiting = select(RunRow).where(RunRow.state == RunState.QUEUED)
    with store.db.read() as session:
        runs = [views.run_record(row) for row in session.exec(waiting.order_by(col(RunRow.id)).limit(_MAX_SHOWN))]
        total = session.exec(select(func.count()).select_from(waiting.subquery())).one()
        ids = {run.experiment_id for run in runs}
        found = session.exec(select(ExperimentRow.id, ExperimentRow.name).where(col(ExperimentRow.id).in_(ids)))
        return runs, dict(found.all()), total
