"""Experiments: plan, launch, read, edit, stop, compare, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response, status
from pydantic import Field

from nat_core.comparison import Comparison
from nat_core.preflight import check_experiment
from nat_core.records import ExperimentRecord, Page, Problem
from nat_core.spec import ExperimentSpec
from server.api.deps import Body, BrokerDep, Cursor, LifeDep, Limit, Notes, StoreDep, Tags
from server.roots import check_roots

router = APIRouter(prefix="/experiments", tags=["experiments"])


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
) -> ExperimentRecord:
    """Store an experiment and queue its runs."""
    check_roots(spec, store.settings.allowed_roots)
    check_experiment(spec)
    broker.check()
    record = store.create_experiment(spec, announce=broker.send, priority=priority)
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
    store: StoreDep, archived: bool = False, limit: Limit = 50, cursor: Cursor = None
) -> Page[ExperimentRecord]:
    """Newest first."""
    return store.list_experiments(archived=archived, limit=limit, cursor=cursor)


@router.get("/{experiment_id}")
def get_experiment(experiment_id: str, store: StoreDep) -> ExperimentRecord:
    return store.get_experiment(experiment_id)


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
