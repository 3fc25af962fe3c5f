"""Is the server up, and can it do its work?"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from nat_core.records import Problem
from nat_core.version import __version__
from server import telemetry
from server.api.deps import BrokerDep, HubDep, StoreDep
from server.errors import BrokerUnavailableError, NotReadyError
from server.ingest import STREAM

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str
    version: str


@router.get("/healthz")
def healthz() -> Health:
    """It answers."""
    return Health(status="ok", version=__version__)


@router.get("/readyz", responses={503: {"model": Problem, "description": "Something it needs is away."}})
def readyz(request: Request, store: StoreDep, broker: BrokerDep) -> Health:
    """Its database, Redis and the ingestor are there."""
    store.list_experiments(limit=1)
    broker.check()
    if not request.app.state.ingestor.is_alive:
        raise NotReadyError("the ingestor does not run, so nothing that trainers report is stored; restart the server")
    return Health(status="ready", version=__version__)


@router.get("/metrics", response_class=PlainTextResponse)
def prometheus(request: Request, store: StoreDep, broker: BrokerDep, hub: HubDep) -> PlainTextResponse:
    """Numbers for Prometheus: queue, runs, ingest, tokens, step time, memory. A viewer's token will do."""
    families = list(store.tally.families())
    with store.db.read() as session:
        families += telemetry.of_database(session)
    try:
        families += telemetry.of_stream(*broker.lag(STREAM), broker.waiting())
        redis_up = True
    except BrokerUnavailableError:
        redis_up = False
    families += telemetry.of_server(redis_up, request.app.state.ingestor.is_alive, hub.num_listeners)
    return PlainTextResponse(telemetry.page(families), media_type=telemetry.CONTENT_TYPE)
