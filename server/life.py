"""A run's life on the server: claimed, beating, stopped, finished or lost.

`attempt` is the fencing token: a worker whose attempt is over gets a 409 and kills its trainer.
Only the server's own clock judges leases.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlmodel import Session, col, select

from nat_core.records import TRANSITIONS, ExperimentRecord, RunRecord, RunState
from nat_core.spec import RunSpec
from server import event_log, views
from server.errors import IllegalTransitionError, NotFoundError, StaleAttemptError
from server.store import Store, experiment_row, run_row, runs_of
from server.tables import RunRow, WorkerRow, utc_now

Outcome = Literal["succeeded", "stopped", "failed"]


@dataclass(frozen=True)
class Orders:
    """What a heartbeat brings back: what the worker should do, and how far its events are stored."""

    desired: Literal["run", "stop"]
    last_seq: int


def move(run: RunRow, state: RunState) -> None:
    """Change a run's state, if the table of transitions has the way."""
    now = RunState(run.state)
    if state not in TRANSITIONS[now]:
        ways = " or ".join(sorted(TRANSITIONS[now])) or "nothing else"
        raise IllegalTransitionError(
            f"run {run.id} is {now}, but a {now} run can become {ways} only, not {state}; reload to see where it stands"
        )
    run.state = state.value
    if state.is_final:
        run.finished_at = utc_now()


class RunLife:
    """Everything that changes a run's state after it was created."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._opened_at = utc_now()

    def claim(self, run_id: str, worker_id: str) -> tuple[int, RunSpec]:
        """Give a queued run to a worker. Of several claimants the first one gets it, the others a 409.

        A worker that asks again before its first heartbeat has not heard the answer, and gets it again.
        """
        with self._store.change() as (session, changes):
            run = run_row(session, run_id)
            if session.get(WorkerRow, worker_id) is None:
                raise NotFoundError(f"{worker_id[:80]!r} is no worker; register it with PUT /api/v1/workers/{{id}}")
            if not _was_just_given(run, worker_id):
                move(run, RunState.RUNNING)
                run.attempt += 1
                run.worker_id = worker_id
                run.started_at = run.heartbeat_at = utc_now()
                run.step, run.latest = 0, {}
            changes.run_ids.add(run_id)
            return run.attempt, RunSpec.model_validate(run.spec)

    def heartbeat(self, run_id: str, attempt: int, step: int) -> Orders:
        with self._store.change() as (session, changes):
            run = _current(session, run_id, attempt)
            run.heartbeat_at = utc_now()
            if run.worker_id is not None and (worker := session.get(WorkerRow, run.worker_id)) is not None:
                worker.seen_at = run.heartbeat_at
            if step > run.step:
                run.step = min(step, run.steps)
                changes.run_ids.add(run_id)
            stopping = run.state == RunState.STOPPING
            return Orders("stop" if stopping else "run", event_log.last_seq(session, run))

    def finish(
        self, run_id: str, attempt: int, outcome: Outcome, reason: str | None = None, message: str | None = None
    ) -> RunRecord:
        """End a run. Saying the same thing twice is fine, since an answer can get lost."""
        with self._store.change() as (session, changes):
            run = run_row(session, run_id)
            if not (run.attempt == attempt and run.state == outcome):
                run = _current(session, run_id, attempt)
                move(run, RunState(outcome))
                run.reason, run.message = reason, message
                changes.run_ids.add(run_id)
            return views.run_record(run)

    def stop(self, run_id: str) -> RunRecord:
        """Ask a run to end: at once where it only waits, else after the step it is in."""
        with self._store.change() as (session, changes):
            run = run_row(session, run_id)
            _stop(run)
            changes.run_ids.add(run_id)
            return views.run_record(run)

    def stop_experiment(self, experiment_id: str) -> ExperimentRecord:
        """Ask every run of an experiment that is queued or running to end."""
        with self._store.change() as (session, changes):
            row = experiment_row(session, experiment_id)
            runs = runs_of(session, experiment_id)
            for run in runs:
                if run.state in (RunState.QUEUED, RunState.RUNNING):
                    _stop(run)
                    changes.run_ids.add(run.id)
            if not any(run.state == RunState.STOPPING for run in runs) and not changes.run_ids:
                raise IllegalTransitionError(f"experiment {experiment_id} has ended, so there is nothing to stop in it")
            return views.experiment_record(row, runs)

    def fail_lost(self, lease_s: float, now: datetime | None = None) -> list[str]:
        """Fail the runs whose worker has been silent for longer than the lease; returns their ids.

        Silence counts from this server's start at the earliest: while it was down nobody could reach it.
        """
        limit = (now or utc_now()) - timedelta(seconds=lease_s)
        if self._opened_at > limit:
            return []
        with self._store.change() as (session, changes):
            for run in session.exec(select(RunRow).where(col(RunRow.state).in_(views.ACTIVE))):
                if run.heartbeat_at is None or run.heartbeat_at < limit:
                    move(run, RunState.FAILED)
                    run.reason = "worker_lost"
                    run.message = (
                        f"worker {run.worker_id} was silent for more than {lease_s:g} s; see that it runs and "
                        "reaches the server, then launch the run again"
                    )
                    changes.run_ids.add(run.id)
            return sorted(changes.run_ids)

    def queued(self) -> list[str]:
        """The runs that wait for a worker, oldest first."""
        with self._store.db.read() as session:
            return list(session.exec(select(RunRow.id).where(RunRow.state == RunState.QUEUED).order_by(col(RunRow.id))))


def _stop(run: RunRow) -> None:
    move(run, RunState.STOPPED if run.state == RunState.QUEUED else RunState.STOPPING)


def _was_just_given(run: RunRow, worker_id: str) -> bool:
    return run.state == RunState.RUNNING and run.worker_id == worker_id and run.heartbeat_at == run.started_at


def _current(session: Session, run_id: str, attempt: int) -> RunRow:
    run = run_row(session, run_id)
    if run.attempt != attempt or run.state not in views.ACTIVE:
        raise StaleAttemptError(
            f"attempt is {attempt}, but run {run_id} is {run.state} in attempt {run.attempt}; end this trainer"
        )
    return run
