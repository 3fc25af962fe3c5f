"""The page of workers and the queue."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlmodel import Session, func, select

from nat_core.records import RunState
from server import queue, waiting
from server.page_route import PageRoute
from server.reading import StoreDep
from server.tables import RunRow, utc_now
from web.queue_pages import WaitingRun, queue_rows, worker_row, workers_page

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
        runs, total = _waiting(session, store.rests.left_s())
    return workers_page(rows, queue_rows(runs, rows), total)


def _waiting(session: Session, rests: Mapping[str, float]) -> tuple[list[WaitingRun], int]:
    """The first waiting runs in the order in which they are taken, and how many wait in all."""
    query = select(RunRow).where(RunRow.state == RunState.QUEUED)
    runs = session.exec(query.order_by(*queue.ORDER).limit(_MAX_SHOWN)).all()
    total = session.exec(select(func.count()).select_from(query.subquery())).one()
    places = {run.id: place for place, run in enumerate(runs, start=1)}
    return waiting.waiting_runs(session, runs, places, waiting.workers_there(session), rests), total
