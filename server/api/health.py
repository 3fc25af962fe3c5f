"""Is the server up, and can it do its work?"""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from nat_core.records import Problem
from nat_core.version import __version__
from server.api.deps import BrokerDep, StoreDep
from server.errors import NotReadyError

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
