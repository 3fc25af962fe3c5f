"""What an experiment would start and what it is expected to cost: a dry run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query

from nat_core.cost import ModelShape, shape_of
from nat_core.errors import ModelError
from nat_core.preflight import check_experiment
from nat_core.records import ExperimentPlan
from nat_core.spec import ExperimentSpec
from server.api.deps import StoreDep
from server.roots import check_roots
from server.store import Store
from web.planning import assumptions, plan_experiment
from web.room import choose_room, present

router = APIRouter(prefix="/plan", tags=["experiments"])

Length = Annotated[int | None, Query(ge=1, le=131_072)]


@router.post("")
def plan(
    spec: ExperimentSpec,
    store: StoreDep,
    worker_id: Annotated[
        str, Query(max_length=200, description="Whose memory; the largest that fits unless given.")
    ] = "",
    prompt_tokens: Length = None,
    completion_tokens: Length = None,
) -> ExperimentPlan:
    """Check an experiment and tell what each budget's step takes beside `full`'s; stores nothing."""
    check_roots(spec, store.settings.allowed_roots)
    check_experiment(spec)
    return planned(spec, store, worker_id, prompt_tokens, completion_tokens)


def planned(
    spec: ExperimentSpec, store: Store, worker_id: str, prompt_tokens: int | None, completion_tokens: int | None
) -> ExperimentPlan:
    """The plan, for the worker asked for or the best that is there. The spec's paths must have been checked."""
    try:
        shape: ModelShape | str = shape_of(spec.base.model.path)
    except ModelError as error:
        shape = error.message
    workers = present(store.list_workers(), datetime.now(UTC))
    room = choose_room(workers, spec.base.resources, worker_id)
    speed = store.speed(room.worker_id, spec.base) if room else None
    return plan_experiment(spec, shape, assumptions(spec.base, prompt_tokens, completion_tokens), room, speed)
