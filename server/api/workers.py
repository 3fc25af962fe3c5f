"""Workers: who is there, on what hardware, doing what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field

from nat_core.records import WorkerRecord
from server.api.conditional import ConditionalRoute
from server.api.deps import Body, Instance, LifeDep, StoreDep
from server.api.runs import Claimed

router = APIRouter(prefix="/workers", tags=["workers"], route_class=ConditionalRoute)


WorkerId = Annotated[str, Path(max_length=200)]
Label = Annotated[str, Field(min_length=1, max_length=100)]


class Registration(Body):
    hostname: str = Field(min_length=1, max_length=255)
    instance: Instance = ""
    home: str = Field(
        "", max_length=64, description="The data folder that keeps the worker's name, by a word of its own."
    )
    hardware: dict[str, Any] = {}
    labels: Annotated[list[Label], Field(max_length=50)] = []


class Offer(Body):
    instance: Instance = ""
    free_gpus: int = Field(0, ge=0, le=1024, description="GPUs of this worker's machine that nobody holds.")


@router.get("")
def list_workers(store: StoreDep) -> list[WorkerRecord]:
    """The one seen last comes first."""
    return store.list_workers()


@router.put("/{worker_id}")
def register(worker_id: WorkerId, registration: Registration, store: StoreDep) -> WorkerRecord:
    """Note that this worker is there; 409 when a worker of another data folder has that name and is there, too."""
    return store.register_worker(worker_id, **dict(registration))


@router.post("/{worker_id}/claim")
def claim_next(worker_id: WorkerId, offer: Offer, life: LifeDep) -> Claimed | None:
    """Take the next run in the queue that fits this worker; null when there is none."""
    given = life.claim_next(worker_id, offer.free_gpus, offer.instance)
    return None if given is None else Claimed(**vars(given))
