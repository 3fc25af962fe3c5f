"""A run's life on the server: claimed, beating, stopped, finished, or lost and queued again.

`attempt` is the fencing token: a worker whose attempt is over gets a 409 and kills its trainer.
Only the server's own clock judges leases, and a monotonic one: setting the time ends no lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlmodel import Session, col, select

from nat_core.records import TRANSITIONS, ExperimentRecord, RunRecord, RunState
from nat_core.spec import RunSpec
from server import event_log, views
from server.errors import IllegalTransitionError, NotFoundError, StaleAttemptError
from server.store import Store, experiment_row, run_row, runs_of
from server.tables import AttemptRow, RunRow, WorkerRow, utc_now

Outcome = Literal["succeeded", "stopped", "failed", "lost", "handed_back"]
"""How an attempt ended. `lost`: the trainer died without a word; `handed_back`: its worker was told to go.

The run itself goes on after these two, as it does when its worker falls silent.
"""


@dataclass(frozen=True)
class Orders:
    """What a heartbeat brings back: what the worker should do, and how far its events are stored."""

    desired: Literal["run", "stop"]
    last_seq: int
    earlier: dict[int, int]


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

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._patient_since = clock()

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
                run.heartbeat_at = run.claimed_at = utc_now()
                run.started_at = run.started_at or run.claimed_at
                run.reason = run.message = None
                session.add(AttemptRow(run_id=run_id, number=run.attempt, worker_id=worker_id))
            self._heard[run_id] = self._clock()
            changes.run_ids.add(run_id)
            return run.attempt, RunSpec.model_validate(run.spec)

    def heartbeat(self, run_id: str, attempt: int, step: int) -> Orders:
        with self._store.change() as (session, changes):
            run = _current(session, run_id, attempt)
            run.heartbeat_at = utc_now()
            self._heard[run_id] = self._clock()
            if run.worker_id is not None and (worker := session.get(WorkerRow, run.worker_id)) is not None:
                worker.seen_at = run.heartbeat_at
            if step > run.step:
                run.step = min(step, run.steps)
                changes.run_ids.add(run_id)
            stopping = run.state == RunState.STOPPING
            stored = event_log.last_seqs(session, run)
            return Orders("stop" if stopping else "run", stored.pop(attempt), stored)

    def finish(
        self, run_id: str, attempt: int, outcome: Outcome, reason: str | None = None, message: str | None = None
    ) -> RunRecord:
        """End an attempt, and the run with it unless it goes on. Saying the same twice is fine: answers get lost."""
        with self._store.change() as (session, changes):
            run = run_row(session, run_id)
            if not (run.attempt == attempt and _says(run, outcome)):
                run = _current(session, run_id, attempt)
                if outcome in ("lost", "handed_back"):
                    self._give_up(
                        session, run, reason or outcome, message or "its trainer is gone", counts=outcome == "lost"
                    )
                else:
                    _end(session, run, RunState(outcome), reason, message)
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

    def end_leases(self, lease_s: float) -> list[str]:
        """Take runs from workers that have been silent for longer than the lease; returns their ids.

        Each is queued again, or failed once it was lost too often. Silence counts from this server's start
        at the earliest: while it was down nobody could reach it.
        """
        limit = self._clock() - lease_s
        with self._store.db.read() as session:
            active = session.exec(select(RunRow.id).where(col(RunRow.state).in_(views.ACTIVE))).all()
        silent = {run_id for run_id in active if self._heard.get(run_id, self._patient_since) < limit}
        if not silent:
            return []
        with self._store.change() as (session, changes):
            for run in session.exec(select(RunRow).where(col(RunRow.id).in_(silent))):
                if run.state in views.ACTIVE and self._heard.get(run.id, self._patient_since) < limit:
                    why = (
                        f"worker {run.worker_id} was silent for more than {lease_s:g} s; see that it runs and "
                        "reaches the server"
                    )
                    self._give_up(session, run, "worker_lost", why)
                    changes.run_ids.add(run.id)
            return sorted(changes.run_ids)

    def be_patient(self) -> None:
        """Count every silence from now on: this server itself was not listening until now."""
        self._patient_since = self._clock()
        self._heard.clear()

    def _give_up(self, session: Session, run: RunRow, reason: str, message: str, counts: bool = True) -> None:
        """An attempt is over and the run is not: back to the queue, as long as restarts are left."""
        limit = self._store.settings.max_restarts
        self._heard.pop(run.id, None)
        if run.state == RunState.STOPPING:
            _end(session, run, RunState.STOPPED, reason, f"{message}; its last checkpoint is what was kept")
        elif counts and run.restarts >= limit:
            told = f"{message}; it was restarted {run.restarts} times, and NATLAB_MAX_RESTARTS is {limit}"
            _end(session, run, RunState.FAILED, reason, told)
        else:
            _end(session, run, RunState.QUEUED, reason, message)
            run.restarts += counts

    def queued(self) -> list[str]:
        """The runs that wait for a worker, oldest first."""
        with self._store.db.read() as session:
            return list(session.exec(select(RunRow.id).where(RunRow.state == RunState.QUEUED).order_by(col(RunRow.id))))


def _stop(run: RunRow) -> None:
    move(run, RunState.STOPPED if run.state == RunState.QUEUED else RunState.STOPPING)


def _end(session: Session, run: RunRow, state: RunState, reason: str | None, message: str | None) -> None:
    """End the newest attempt and move the run on; both remember why."""
    move(run, state)
    run.reason, run.message = reason, message
    row = session.get(AttemptRow, (run.id, run.attempt))
    if row is not None:
        row.ended_at, row.reason, row.message = utc_now(), reason, message


def _says(run: RunRow, outcome: Outcome) -> bool:
    """Whether this is how the run's newest attempt is known to have ended."""
    return run.state not in views.ACTIVE if outcome in ("lost", "handed_back") else run.state == outcome


def _was_just_given(run: RunRow, worker_id: str) -> bool:
    return run.state == RunState.RUNNING and run.worker_id == worker_id and run.heartbeat_at == run.claimed_at


def _current(session: Session, run_id: str, attempt: int) -> RunRow:
    run = run_row(session, run_id)
    if run.attempt != attempt or run.state not in views.ACTIVE:
        raise StaleAttemptError(
            f"attempt is {attempt}, but run {run_id} is {run.state} in attempt {run.attempt}; end this trainer"
        )
    return run
