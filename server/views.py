"""From table rows to the records that the API and the pages show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row

from nat_core.records import (
    ACTIVE,
    AttemptRecord,
    ExperimentRecord,
    RunDetail,
    RunRecord,
    RunState,
    WorkerRecord,
    actions_of,
    is_alive,
)
from nat_core.spec import ExperimentSpec, RunSpec
from server.tables import AttemptRow, ExperimentRow, RunRow, WorkerRow, utc_now

ExperimentState = Literal["queued", "running", "paused", "succeeded", "stopped", "failed"]

NOWHERE: Mapping[str, int] = {}


def run_record(row: RunRow, places: Mapping[str, int] = NOWHERE) -> RunRecord:
    """`places` tells where in the queue the waiting runs are."""
    return RunRecord.model_validate(_run_fields(row, places))


def run_detail(
    row: RunRow, attempts: Sequence[AttemptRow], places: Mapping[str, int] = NOWHERE, waits_for: str | None = None
) -> RunDetail:
    """`waits_for` tells why a queued run has not begun."""
    more = {
        "spec": RunSpec.model_validate(row.spec),
        "attempts": [AttemptRecord.model_validate(attempt.model_dump()) for attempt in attempts],
        "waits_for": waits_for,
    }
    return RunDetail.model_validate({**_run_fields(row, places), **more})


def experiment_record(
    row: ExperimentRow, runs: Sequence[RunRow], places: Mapping[str, int] = NOWHERE
) -> ExperimentRecord:
    return ExperimentRecord(
        id=row.id,
        name=row.name,
        state=experiment_state([RunState(run.state) for run in runs]),
        tags=row.tags,
        notes=row.notes,
        archived=row.archived,
        created_at=row.created_at,
        spec=ExperimentSpec.model_validate(row.spec),
        runs=[run_record(run, places) for run in runs],
    )


def worker_record(row: WorkerRow, run_id: str | None) -> WorkerRecord:
    return WorkerRecord.model_validate(
        {**row.model_dump(), "alive": is_alive(row.seen_at, utc_now()), "run_id": run_id}
    )


def experiment_state(states: Sequence[RunState]) -> ExperimentState:
    """`running` from the first run's start to the last one's end, unless what is left is paused; then the worst end."""
    kinds = set(states)
    if kinds == {RunState.QUEUED}:
        return "queued"
    if kinds & {RunState.QUEUED, *ACTIVE}:
        return "running"
    if RunState.PAUSED in kinds:
        return "paused"
    if RunState.FAILED in kinds:
        return "failed"
    return "stopped" if RunState.STOPPED in kinds or not kinds else "succeeded"


def eta_s(row: RunRow | Row[Any], now: datetime) -> float | None:
    """Seconds left if the steps to come take as long as those of this attempt so far."""
    done = row.step - row.resumed_step
    if row.state not in ACTIVE or row.claimed_at is None or done < 1:
        return None
    so_far = max(0.0, (now - row.claimed_at).total_seconds())  # the clock may have been set back since
    return so_far / done * max(0, row.steps - row.step)


def _run_fields(row: RunRow, places: Mapping[str, int]) -> dict[str, Any]:
    derived = {
        "eta_s": eta_s(row, utc_now()),
        "actions": actions_of(RunState(row.state)),
        "queue_position": places.get(row.id),
    }
    return {**row.model_dump(exclude={"spec"}), **derived}
