"""How fast a worker trains a model, from the runs that it finished: what gives a plan its seconds."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from nat_core.comparison import RunOutcome
from nat_core.cost import num_ranks
from nat_core.records import RunState, Speed
from nat_core.spec import RunSpec
from server.tables import RunRow

_NEWEST, _ENOUGH = 100, 6
_ALIKE = {
    "model": ("path", "revision", "dtype", "attn_implementation", "gradient_checkpointing", "lora"),
    "resources": ("device", "num_threads"),
}
"""Fields in which runs must agree for one to tell how fast the other will be."""


def alike(session: Session, worker_id: str, spec: RunSpec) -> Sequence[RunRow]:
    """The newest runs of this model that the worker finished by itself: beside others all are slower."""
    rows = session.exec(
        select(RunRow)
        .where(RunRow.worker_id == worker_id, RunRow.state == RunState.SUCCEEDED.value)
        .order_by(col(RunRow.finished_at).desc())
        .limit(_NEWEST)
    )
    wanted = _traits(spec)
    found = (row for row in rows if not (row.hardware or {}).get("neighbours"))
    return [row for row in found if _traits(RunSpec.model_validate(row.spec)) == wanted][:_ENOUGH]


def of(outcomes: Sequence[RunOutcome]) -> Speed | None:
    """All their operations, over all their time."""
    counted = [run for run in outcomes if run.flops > 0 and run.forward_backward_s > 0]
    if not counted:
        return None
    seconds = sum(run.forward_backward_s for run in counted)
    return Speed(flops_per_s=sum(run.flops for run in counted) / seconds, num_runs=len(counted))


def _traits(spec: RunSpec) -> list[object]:
    fields = [getattr(getattr(spec, section), name) for section, names in _ALIKE.items() for name in names]
    return [*fields, num_ranks(spec)]
