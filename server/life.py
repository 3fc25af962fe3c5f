"""A run's life on the server: claimed, beating, stopped, finished, or lost and queued again.

`attempt` is the fencing token: a worker whose attempt is over gets a 409 and kills its trainer. Beside it stands
`instance`, the worker's very process: names of workers may meet, and a call that was given up may arrive late.
Only the server's own clock judges leases, and a monotonic one: setting the time ends no lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlmodel import Session, col, select

from nat_core.records import ACTIONS, ACTIVE, TRANSITIONS, Action, ExperimentRecord, RunRecord, RunState
from nat_core.spec import RunSpec
from server import event_log, outcomes, queue, views
from server.changes import Changes
from server.errors import IllegalTransitionError, StaleAttemptError
from server.leases import KILL_S, Lease, Leases
from server.rests import Rests
from server.rows import experiment_row, run_row, runs_of, worker_row
from server.store import Store
from server.tables import AttemptRow, RunRow, WorkerRow, utc_now

Outcome = Literal["succeeded", "stopped", "failed", "lost", "handed_back"]
"""How an attempt ended. `stopped`: its trainer was asked to, whether for a pause or for good; `lost`: the trainer
died without a word or hung; `handed_back`: its worker was told to go. The run may go on after all but two of them."""

Desired = Literal["run", "pause", "stop", "kill"]

_KILLED = "killed"
_IN_USE = "folder_taken"
_DESIRED: dict[RunState, Desired] = {RunState.PAUSING: "pause", RunState.STOPPING: "stop"}
_ENDS: dict[Outcome, frozenset[RunState]] = {
    "succeeded": frozenset({RunState.SUCCEEDED}),
    "failed": frozenset({RunState.FAILED}),
    "stopped": frozenset({RunState.STOPPED, RunState.PAUSED, RunState.FAILED}),
    "lost": frozenset(RunState) - frozenset(ACTIVE),
    "handed_back": frozenset(RunState) - frozenset(ACTIVE),
}
"""Where a run can stand after an attempt that ended so: the same said twice is then no contradiction."""


@dataclass(frozen=True)
class Orders:
    """What a heartbeat brings back: what the worker should do, and how far its events are stored."""

    desired: Desired
    last_seq: int
    earlier: dict[int, int]


@dataclass(frozen=True)
class Given:
    """A run that a worker got: the fencing token of every later call, and how many GPUs it should lease."""

    run_id: str
    attempt: int
    gpus: int
    spec: RunSpec


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
        self._leases = Leases(clock)
        self._rests = store.rests = Rests(clock)  # the store tells people of them

    def claim(self, run_id: str, worker_id: str, instance: str = "") -> Given:
        """Give a queued run to a worker. Of several claimants the first one gets it, the others a 409.

        A process that asks again before its first heartbeat has not heard the answer, and gets it again.
        """
        with self._store.change() as (session, changes):
            return self._give(session, changes, run_row(session, run_id), worker_row(session, worker_id), instance)

    def claim_next(self, worker_id: str, free_gpus: int, instance: str = "") -> Given | None:
        """Give a worker the next run in the queue that fits it, if there is one; see `claim`.

        A process trains one run at a time: one that has a run and beats for it gets no other. It gave up on
        this call, which waited for the database, and was answered at its next one.
        """
        with self._store.change() as (session, changes):
            worker = worker_row(session, worker_id)
            mine = (RunRow.worker_id == worker_id, RunRow.instance == instance, col(RunRow.state).in_(ACTIVE))
            run = session.exec(select(RunRow).where(*mine)).first()
            if run is None:
                run_id = queue.next_for(session, worker, free_gpus, self._rests.left_s())
                run = None if run_id is None else run_row(session, run_id)
            elif not _was_just_given(run, worker_id, instance):
                return None
            return None if run is None else self._give(session, changes, run, worker, instance)

    def _give(self, session: Session, changes: Changes, run: RunRow, worker: WorkerRow, instance: str) -> Given:
        if not _was_just_given(run, worker.id, instance):
            move(run, RunState.RUNNING)
            run.attempt += 1
            run.worker_id, run.instance = worker.id, instance
            run.heartbeat_at = run.claimed_at = utc_now()
            run.started_at = run.started_at or run.claimed_at
            run.reason = run.message = None
            session.add(AttemptRow(run_id=run.id, number=run.attempt, worker_id=worker.id))
        self._leases.hear(_lease(run))
        changes.run_ids.add(run.id)
        return Given(
            run.id,
            run.attempt,
            queue.gpus_needed(run.spec.get("resources", {}), worker),
            RunSpec.model_validate(run.spec),
        )

    def heartbeat(self, run_id: str, attempt: int, step: int, instance: str = "") -> Orders:
        with self._store.db.read() as session:  # heard is heard, however long the database is busy
            _current(session, run_id, attempt, instance)
        self._leases.hear((run_id, attempt))
        with self._store.change() as (session, changes):
            run = _current(session, run_id, attempt, instance)
            run.heartbeat_at = utc_now()
            if run.worker_id is not None and (worker := session.get(WorkerRow, run.worker_id)) is not None:
                worker.seen_at = run.heartbeat_at
            if step > run.step:
                run.step = min(step, run.steps)
                changes.run_ids.add(run_id)
            stored = event_log.last_seqs(session, run)
            return Orders(_desired(run), stored.pop(attempt), stored)

    def finish(
        self,
        run_id: str,
        attempt: int,
        outcome: Outcome,
        reason: str | None = None,
        message: str | None = None,
        instance: str = "",
    ) -> RunRecord:
        """End an attempt, and the run with it unless it goes on. Saying the same twice is fine: answers get lost."""
        with self._store.change() as (session, changes):
            run = run_row(session, run_id)
            if not (_is_of(run, attempt, instance) and run.state in _ENDS[outcome]):
                run = _current(session, run_id, attempt, instance)
                self._settle(session, run, outcome, reason, message)
                changes.run_ids.add(run_id)
            record = views.run_record(run, queue.places(session, [run]))
        self._leases.forget((run_id, attempt))
        return record

    def act(self, run_id: str, action: Action) -> RunRecord:
        """Do what somebody asked of a run: at once where it only waits, else its worker hears of it.

        A kill ends within `KILL_S`; pause and stop end when the trainer has saved a checkpoint.
        """
        with self._store.change() as (session, changes):
            run = run_row(session, run_id)
            self._act(run, action)
            changes.run_ids.add(run_id)
            return views.run_record(run, queue.places(session, [run]))

    def stop_experiment(self, experiment_id: str) -> ExperimentRecord:
        """Ask every run of an experiment that has not ended to end."""
        with self._store.change() as (session, changes):
            row = experiment_row(session, experiment_id)
            runs = runs_of(session, experiment_id)
            for run in runs:
                if run.state in ACTIONS["stop"]:
                    self._act(run, "stop")
                    changes.run_ids.add(run.id)
            if not any(run.state == RunState.STOPPING for run in runs) and not changes.run_ids:
                raise IllegalTransitionError(f"experiment {experiment_id} has ended, so there is nothing to stop in it")
            return views.experiment_record(row, runs, queue.places(session, runs))

    def end_leases(self, lease_s: float) -> list[str]:
        """Take runs from workers that are silent for longer than the lease, or killed and not gone; returns their ids.

        Each is queued again, or failed once it was lost too often. Silence counts from this server's start
        at the earliest: while it was down nobody could reach it.
        """
        with self._store.db.read() as session:
            active = session.exec(select(RunRow).where(col(RunRow.state).in_(ACTIVE))).all()
            overdue = {run.id for run in active if self._why_overdue(run, lease_s)}
        if not overdue:
            return []
        ended: list[Lease] = []
        with self._store.change() as (session, changes):
            for run in session.exec(select(RunRow).where(col(RunRow.id).in_(overdue))):
                if run.state in ACTIVE and (why := self._why_overdue(run, lease_s)):
                    ended.append(_lease(run))
                    self._settle(session, run, "lost", "worker_lost", why)
                    changes.run_ids.add(run.id)
        self._leases.forget(*ended)
        return sorted(run_id for run_id, _ in ended)

    def _why_overdue(self, run: RunRow, lease_s: float) -> str | None:
        """Why an active run is to be taken from its worker, if it is."""
        if self._leases.is_silent(_lease(run), lease_s):
            return f"worker {run.worker_id} was silent for more than {lease_s:g} s; see that it reaches the server"
        if _is_killed(run) and self._leases.outlived_its_kill(_lease(run)):
            return f"worker {run.worker_id} did not end it within {KILL_S:g} s"
        return None

    def be_patient(self) -> None:
        """Count every silence from now on: this server itself was not listening until now."""
        self._leases.be_patient()

    def _act(self, run: RunRow, action: Action) -> None:
        self._rests.forget(run.id)
        now = RunState(run.state)
        state = ACTIONS[action].get(now)
        if state is None:
            ways = " or ".join(ACTIONS[action])
            raise IllegalTransitionError(
                f"run {run.id} is {now}, but {action} takes a {ways} run; reload to see where it stands"
            )
        if state != now:
            move(run, state)
        run.reason, run.message = (_KILLED, "it was killed on request") if action == "kill" else (None, None)
        if action == "kill" and state in ACTIVE:
            self._leases.kill(_lease(run))

    def _settle(self, session: Session, run: RunRow, outcome: Outcome, reason: str | None, message: str | None) -> None:
        """End an attempt. The run ends with it, pauses, or goes back to the queue as long as restarts are left."""
        kept = f"{message}; its last checkpoint is what was kept" if message and outcome != "stopped" else message
        if outcome in ("succeeded", "failed"):
            _end(session, run, RunState(outcome), reason, message)
        elif _is_killed(run):
            _end(session, run, RunState.FAILED, _KILLED, run.message)
        elif run.state == RunState.PAUSING:
            _end(session, run, RunState.PAUSED, reason, kept)
        elif run.state == RunState.STOPPING or outcome == "stopped":
            _end(session, run, RunState.STOPPED, reason, kept)
        else:
            told = message or "its trainer is gone"
            (self._rests.begin if reason == _IN_USE else self._rests.forget)(run.id)
            self._queue_again(session, run, reason or outcome, told, counts=outcome == "lost")

    def _queue_again(self, session: Session, run: RunRow, reason: str, message: str, counts: bool) -> None:
        limit = self._store.settings.max_restarts
        if counts and run.restarts >= limit:
            told = f"{message}; it was restarted {run.restarts} times, and NATLAB_MAX_RESTARTS is {limit}"
            _end(session, run, RunState.FAILED, reason, told)
        else:
            _end(session, run, RunState.QUEUED, reason, message)
            run.restarts += counts

    def that_can_start(self) -> list[str]:
        """The runs that wait while a worker that fits them does, too, the next one first."""
        with self._store.db.read() as session:
            return queue.that_can_start(session, self._rests.left_s())


def _lease(run: RunRow) -> Lease:
    return run.id, run.attempt


def _is_killed(run: RunRow) -> bool:
    return run.state == RunState.STOPPING and run.reason == _KILLED


def _desired(run: RunRow) -> Desired:
    if _is_killed(run):
        return "kill"
    return _DESIRED.get(RunState(run.state), "run")


def _end(session: Session, run: RunRow, state: RunState, reason: str | None, message: str | None) -> None:
    """End the newest attempt and move the run on; both remember why."""
    move(run, state)
    if state.is_final:
        outcomes.store(session, run.id)
    run.reason, run.message = reason, message
    row = session.get(AttemptRow, (run.id, run.attempt))
    if row is not None:
        row.ended_at, row.reason, row.message = utc_now(), reason, message


def _was_just_given(run: RunRow, worker_id: str, instance: str) -> bool:
    given_to = (run.worker_id, run.instance)
    return run.state == RunState.RUNNING and given_to == (worker_id, instance) and run.heartbeat_at == run.claimed_at


def _is_of(run: RunRow, attempt: int, instance: str) -> bool:
    """Whether the run's newest attempt is this one, of this very process."""
    return (run.attempt, run.instance) == (attempt, instance)


def _current(session: Session, run_id: str, attempt: int, instance: str) -> RunRow:
    run = run_row(session, run_id)
    if not _is_of(run, attempt, instance) or run.state not in ACTIVE:
        whose = " of another process" if run.attempt == attempt and run.instance != instance else ""
        raise StaleAttemptError(
            f"attempt is {attempt}, but run {run_id} is {run.state} in attempt {run.attempt}{whose}; end this trainer"
        )
    return run
