"""Runs: what people do with them, and what workers tell of them."""

from __future__ import annotations

import contextlib
from typing import Annotated, Literal

from fastapi import APIRouter, Query, status
from fastapi.responses import PlainTextResponse
from pydantic import Field

from nat_core.events import AnyEvent
from nat_core.records import MetricSeries, Page, RunDetail, RunRecord, RunState
from nat_core.spec import RunSpec
from server.api.conditional import ConditionalRoute
from server.api.deps import (
    MAX_INTEGER,
    Body,
    BrokerDep,
    Cursor,
    Instance,
    LifeDep,
    Limit,
    Notes,
    Priority,
    StoreDep,
    Tags,
)
from server.api.fields import Fields, Part, only, only_page
from server.broker import Broker
from server.errors import BrokerUnavailableError
from server.life import Desired, Outcome

router = APIRouter(prefix="/runs", tags=["runs"], route_class=ConditionalRoute)

EventType = Literal["metrics", "sample", "evaluation", "checkpoint", "log", "state"]
Attempt = Annotated[int, Field(ge=1, le=MAX_INTEGER, description="The attempt that the claim gave.")]


class RunEdit(Body):
    """The fields to change; those left out stay."""

    tags: Tags = []
    notes: Notes = ""
    priority: Priority = 0


class Claim(Body):
    worker_id: str = Field(min_length=1, max_length=200)
    instance: Instance = ""


class Claimed(Body):
    """The run is the worker's; `attempt` goes with every later call."""

    run_id: str
    attempt: int
    gpus: int = Field(description="How many GPUs to lease for it.")
    spec: RunSpec


class Heartbeat(Body):
    attempt: Attempt
    instance: Instance = ""
    step: int = Field(ge=0, le=MAX_INTEGER, description="Steps finished.")


class HeartbeatReply(Body):
    desired: Desired = Field(description="`pause` and `stop`: save a checkpoint and end; `kill`: end now.")
    last_seq: int = Field(description="The event up to which none is missing here; resend from the next one.")
    earlier: dict[int, int] = Field(description="The same for the run's earlier attempts.")


class Stored(Body):
    attempts: dict[int, int] = Field(description="By attempt, the event up to which none is missing here.")


class Finish(Body):
    attempt: Attempt
    instance: Instance = ""
    outcome: Outcome
    reason: str | None = Field(None, max_length=100)
    message: str | None = Field(None, max_length=4000)


@router.get("")
def list_runs(
    store: StoreDep,
    experiment_id: str | None = None,
    state: RunState | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Page[RunRecord] | Page[Part]:
    """Newest first."""
    page = store.list_runs(experiment_id=experiment_id, state=state, limit=limit, cursor=cursor)
    return only_page(page, RunRecord, fields)


@router.get("/{run_id}")
def get_run(run_id: str, store: StoreDep, fields: Fields = None) -> RunDetail | Part:
    """The run with its spec and its attempts, as they are now."""
    return only(store.get_run(run_id), fields)


@router.patch("/{run_id}")
def edit_run(run_id: str, edit: RunEdit, store: StoreDep) -> RunRecord:
    """Change tags, notes or its priority in the queue."""
    return store.edit_run(run_id, **edit.model_dump(exclude_unset=True))


@router.delete("/{run_id}", status_code=status.HTTP_204_NO_CONTENT)
def delete_run(run_id: str, store: StoreDep) -> None:
    """Delete a finished run and free its folder."""
    store.delete_run(run_id)


@router.post("/{run_id}/archive")
def archive_run(run_id: str, store: StoreDep) -> RunRecord:
    """Leave it out of its experiment's comparison."""
    return store.edit_run(run_id, archived=True)


@router.post("/{run_id}/unarchive")
def unarchive_run(run_id: str, store: StoreDep) -> RunRecord:
    return store.edit_run(run_id, archived=False)


@router.post("/{run_id}/stop", status_code=status.HTTP_202_ACCEPTED)
def stop_run(run_id: str, life: LifeDep) -> RunRecord:
    """Ask the run to end: at once if it waits, else with a checkpoint; the step it is in is thrown away."""
    return life.act(run_id, "stop")


@router.post("/{run_id}/pause", status_code=status.HTTP_202_ACCEPTED)
def pause_run(run_id: str, life: LifeDep) -> RunRecord:
    """Ask the run to save a checkpoint and free its worker until it is resumed."""
    return life.act(run_id, "pause")


@router.post("/{run_id}/resume", status_code=status.HTTP_202_ACCEPTED)
def resume_run(run_id: str, life: LifeDep, broker: BrokerDep) -> RunRecord:
    """Queue a paused run again; it goes on from its checkpoint exactly."""
    run = life.act(run_id, "resume")
    ring(broker, run)
    return run


@router.post("/{run_id}/kill", status_code=status.HTTP_202_ACCEPTED)
def kill_run(run_id: str, life: LifeDep) -> RunRecord:
    """End the run within ten seconds, without a checkpoint; it has failed with reason `killed`."""
    return life.act(run_id, "kill")


# --- what it reported -----------------------------------------------------------------------------


@router.get("/{run_id}/metrics")
def run_metrics(
    run_id: str,
    store: StoreDep,
    keys: Annotated[str, Query(max_length=4000, description="Metrics, separated by commas.")],
    since: Annotated[int | None, Query(ge=-1, le=MAX_INTEGER, description="Only steps after this one.")] = None,
) -> list[MetricSeries]:
    """Values by step."""
    return store.metric_series([run_id], split(keys), since=since)


@router.get("/{run_id}/events")
def run_events(
    run_id: str,
    store: StoreDep,
    type: Annotated[
        list[EventType],
        Query(default_factory=list, max_length=6, description="Only events of these types; give it once for each."),
    ],
    after_seq: Annotated[int, Query(ge=0, le=MAX_INTEGER, description="`seq` of the last event that you have.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most events in the answer.")] = 200,
) -> list[AnyEvent]:
    """The run's events in order, without what a restart superseded; `seq` is larger by 2³² in each new attempt."""
    return store.events(run_id, type=type, after_seq=after_seq, limit=limit)


@router.get("/{run_id}/logs", response_class=PlainTextResponse)
def run_logs(run_id: str, store: StoreDep) -> PlainTextResponse:
    """Log events, then the end of what the trainer printed."""
    return PlainTextResponse(store.log_text(run_id))


# --- for workers ----------------------------------------------------------------------------------


@router.post("/{run_id}/claim")
def claim_run(run_id: str, claim: Claim, life: LifeDep) -> Claimed:
    """Take a queued run; 409 when somebody else has it."""
    return Claimed(**vars(life.claim(run_id, claim.worker_id, claim.instance)))


@router.post("/{run_id}/heartbeat")
def beat(run_id: str, heartbeat: Heartbeat, life: LifeDep) -> HeartbeatReply:
    """Say that the run goes on; hear whether it should."""
    orders = life.heartbeat(run_id, heartbeat.attempt, heartbeat.step, heartbeat.instance)
    return HeartbeatReply(desired=orders.desired, last_seq=orders.last_seq, earlier=orders.earlier)


@router.get("/{run_id}/stored")
def stored_events(run_id: str, store: StoreDep) -> Stored:
    """How much of what the run's attempts reported is here, for whoever has the rest."""
    return Stored(attempts=store.stored(run_id))


@router.post("/{run_id}/finish")
def finish_run(run_id: str, finish: Finish, life: LifeDep, broker: BrokerDep) -> RunRecord:
    """Say how the attempt ended. After `lost` and `handed_back` the run waits for a worker again."""
    run = life.finish(run_id, finish.attempt, finish.outcome, finish.reason, finish.message, finish.instance)
    ring(broker, run)
    return run


def ring(broker: Broker, run: RunRecord) -> None:
    """Call for a worker, if the run waits for one."""
    if run.state == RunState.QUEUED:
        with contextlib.suppress(BrokerUnavailableError):  # then the watch rings once Redis is back
            broker.send(run.id)


def split(names: str) -> list[str]:
    """The parts of a comma-separated list, each once."""
    return list(dict.fromkeys(part.strip() for part in names.split(",") if part.strip()))
