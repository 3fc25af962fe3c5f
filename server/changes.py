"""What one transaction changed, and the removal of rows within one."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlmodel import Session, col, delete

from nat_core.records import RunState
from server import outcomes
from server.errors import NotFinishedError
from server.rows import runs_of
from server.tables import AttemptRow, BucketRow, EventRow, ExperimentRow, RunRow


@dataclass
class Changes:
    """What one transaction changed: runs to tell about, those with new metrics, and what is gone."""

    run_ids: set[str] = field(default_factory=set)
    with_metrics: set[str] = field(default_factory=set)
    removed: bool = False
    removed_runs: list[str] = field(default_factory=list)


def delete_experiment_row(session: Session, changes: Changes, row: ExperimentRow) -> None:
    """Remove an experiment with its runs, all of which must have ended."""
    for run in runs_of(session, row.id):
        remove_run(session, changes, run)
    session.delete(row)
    changes.removed = True


def remove_run(session: Session, changes: Changes, run: RunRow) -> None:
    """Remove a run, which must have ended, with all that is stored about it."""
    if not RunState(run.state).is_final:
        raise NotFinishedError(f"run {run.id} is {run.state}, but only a finished run can be deleted; stop it first")
    session.exec(delete(EventRow).where(col(EventRow.run_id) == run.id))
    session.exec(delete(BucketRow).where(col(BucketRow.run_id) == run.id))
    session.exec(delete(AttemptRow).where(col(AttemptRow.run_id) == run.id))
    outcomes.forget(session, run.id)
    session.delete(run)
    session.flush()
    changes.removed = True
    changes.removed_runs.append(run.id)
