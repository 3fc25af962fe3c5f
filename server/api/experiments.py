"""Experiments: plan, launch, read, edit, stop, compare, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response, status
from pydantic import Field

from nat_core.comparison import Comparison
from nat_core.preflight import check_experiment
from nat_core.records import ExperimentRecord, Page, Problem
from nat_core.spec import ExperimentSpec
from server.api.conditional import ConditionalRoute
from server.api.deps import Body, BrokerDep, Cursor, LifeDep, Limit, Notes, StoreDep, Tags
from server.api.fields import Fields, Part, only, only_page
from server.launches import AlreadyLaunched, LaunchKey, demand_new
from server.roots import check_roots

router = APIRouter(prefix="/experiments", tags=["experiments"], route_class=ConditionalRoute)


class Plan(Body):
    """What an experiment would start."""

    num_runs: int
    cells: list[str] = Field(description="The budgets in words.")
    seeds: list[int]
    steps_total: int = Field(description="Steps of all runs together.")


class ExperimentEdit(Body):
    """The fields to change; those left out stay."""

    name: Annotated[str, Field(min_length=1, max_length=120)] = ""
    tags: Tags = []
    notes: Notes = ""


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses={
        200: {"model": ExperimentRecord, "description": "It was launched before with this `Idempotency-Key`."},
        429: {"model": Problem, "description": "Too many runs wait already, or launches come too fast."},
        503: {"model": Problem, "description": "Redis cannot be reached; nothing was stored."},
    },
)
def launch(
    spec: ExperimentSpec,
    response: Response,
    store: StoreDep,
    broker: BrokerDep,
    priority: Annotated[int, Query(ge=-1000, le=1000, description="Runs with a higher one start first.")] = 0,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=200, description="Launch once for one key, however often asked.")
    ] = None,
) -> ExperimentRecord:
    """Store an experiment and queue its runs. With an `Idempotency-Key` a second call answers 200 and the same."""
    key = None if idempotency_key is None else LaunchKey.of(idempotency_key, spec, priority)
    try:
        with store.db.read() as session:  # the answer to a repeated call needs neither files nor Redis
            demand_new(session, key)
        check_roots(spec, store.settings.allowed_roots)
        check_experiment(spec)
        broker.check()
        record = store.create_experiment(spec, announce=broker.send, priority=priority, key=key)
    except AlreadyLaunched as earlier:
        response.status_code = status.HTTP_200_OK
        record = store.get_experiment(earlier.experiment_id)
    response.headers["Location"] = f"/api/v1/experiments/{record.id}"
    return record


@router.post("/plan")
def plan(spec: ExperimentSpec, store: StoreDep) -> Plan:
    """Check an experiment and say what it would start; stores nothing."""
    check_roots(spec, store.settings.allowed_roots)
    check_experiment(spec)
    runs = spec.expand()
    return Plan(
        num_runs=len(runs),
        cells=[budget.label for budget in spec.budgets],
        seeds=list(spec.seeds),
        steps_total=sum(run.steps for run in runs),
    )


@router.get("")
def list_experiments(
    store: StoreDep, archived: bool = False, limit: Limit = 50, cursor: Cursor = None, fields: Fields = None
) -> Page[ExperimentRecord] | Page[Part]:
    """Newest first."""
    page = store.list_experiments(archived=archived, limit=limit, cursor=cursor)
    return only_page(page, ExperimentRecord, fields)


@router.get("/{experiment_id}")
def get_experiment(experiment_id: str, store: StoreDep, fields: Fields = None) -> ExperimentRecord | Part:
    """The experiment with its runs, as they are now."""
    return only(store.get_experiment(experiment_id), fields)


@router.patch("/{experiment_id}")
def edit_experiment(experiment_id: str, edit: ExperimentEdit, store: StoreDep) -> ExperimentRecord:
    """Change name, tags or notes."""
    return store.edit_experiment(experiment_id, **edit.model_dump(exclude_unset=True))


@router.delete("/{experiment_id}", status_code=status.HTTP_204_NO_CONTENT)
def delete_experiment(experiment_id: str, store: StoreDep) -> None:
    """Delete a finished experiment with its runs, and free their folders."""
    store.delete_experiment(experiment_id)


@router.post("/{experiment_id}/archive")
def archive_experiment(experiment_id: str, store: StoreDep) -> ExperimentRecord:
    """Take it out of the usual listing."""
    return store.edit_experiment(experiment_id, archived=True)


@router.post("/{experiment_id}/unarchive")
def unarchive_experiment(experiment_id: str, store: StoreDep) -> ExperimentRecord:
    return store.edit_experiment(experiment_id, archived=False)


@router.post("/{experiment_id}/stop", status_code=status.HTTP_202_ACCEPTED)
def stop_experiment(experiment_id: str, life: LifeDep) -> ExperimentRecord:
    """Ask all its runs to end: waiting ones at once, others with a checkpoint."""
    return life.stop_experiment(experiment_id)


@router.get("/{experiment_id}/comparison")
def compare_experiment(experiment_id: str, store: StoreDep) -> Comparison:
    """What each budget cost and saved beside the baseline, and what can be claimed."""
    return store.comparison(experiment_id)
