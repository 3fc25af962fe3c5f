"""Workers: who is there, on what hardware, doing what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field

from nat_core.records import WorkerRecord
from server.api.deps import Body, StoreDep

router = APIRouter(prefix="/workers", tags=["workers"])


class Registration(Body):
    hostname: str = Field(min_length=1, max_length=255)
    hardware: dict[str, Any] = {}


@router.get("")
def list_workers(store: StoreDep) -> list[WorkerRecord]:
    """The one seen last comes first."""
    return store.list_workers()


@router.put("/{worker_id}")
def register(
    worker_id: Annotated[str, Path(max_length=200)], registration: Registration, store: StoreDep
) -> WorkerRecord:
    """Note that this worker is there."""
    return store.register_worker(worker_id, registration.hostname, registration.hardware)
