"""Which attempts of a run make up its history, and up to which step each of them counts.

A run that is lost goes on in a new attempt from the newest checkpoint in its folder. What the old
attempt reported after that step happened, but not to this run: those rows are superseded, so that
every step is there once. Nothing is deleted; a row counts up to its attempt's `kept_to`. Of a checkpoint that was
still to be evaluated, several attempts may begin with that: the newest one's answers count.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from nat_core.events import StateEvent
from server.tables import AttemptRow, RunRow

NOTHING = -1

COUNTS = (
    "JOIN attempt ON attempt.run_id = event.run_id AND attempt.number = event.attempt "
    "AND event.step <= coalesce(attempt.kept_to, event.step) "
    "AND NOT (event.type = 'evaluation' AND EXISTS (SELECT 1 FROM event AS again "
    "JOIN attempt AS later ON later.run_id = again.run_id AND later.number = again.attempt "
    "AND again.step <= coalesce(later.kept_to, again.step) "
    "WHERE again.run_id = event.run_id AND again.type = 'evaluation' AND again.step = event.step "
    "AND again.attempt > event.attempt))"
)
"""SQL: of the events, those that make up the run's history."""


def of_run(session: Session, run_id: str) -> Sequence[AttemptRow]:
    """A run's attempts, oldest first."""
    return session.exec(select(AttemptRow).where(AttemptRow.run_id == run_id).order_by(col(AttemptRow.number))).all()


def note_start(session: Session, run: RunRow, number: int, event: StateEvent, folder: Sequence[int]) -> bool:
    """Take in that an attempt's trainer began after `event.step` steps; returns whether that was news.

    `folder` lists the earlier attempts that wrote in the same run folder: the checkpoint is one of theirs.
    """
    row = session.get(AttemptRow, (run.id, number))
    if row is None or row.resumed_step is not None:
        return False
    row.resumed_step, row.folder = event.step, sorted(folder)
    rows = of_run(session, run.id)
    limits = kept_to({row.number: (row.resumed_step, row.folder) for row in rows})
    for row in rows:
        row.kept_to = limits[row.number]
    if number == run.attempt:
        run.step = run.resumed_step = min(event.step, run.steps)
    return True


def kept_to(attempts: dict[int, tuple[int | None, Sequence[int]]]) -> dict[int, int | None]:
    """The last step of each attempt that counts; None where all do, `NOTHING` where none does.

    The newest attempt that started is the run. Before the step it began with, the one before it *in the
    same folder* is, and so on; one that began at the start needs none before it. Attempts in another
    folder left no checkpoint that anyone went on from.

    Args:
        attempts: number → (step it began with, None if it never started; earlier attempts in its folder).
    """
    started = [number for number, (step, _) in attempts.items() if step is not None]
    if not started:
        return dict.fromkeys(attempts)
    newest = max(started)
    limits: dict[int, int | None] = {number: None if number >= newest else NOTHING for number in attempts}
    begun, folder = attempts[newest]
    for number in sorted(set(folder) & set(started) - {newest}, reverse=True):
        if not begun:
            break
        limits[number] = begun
        begun = min(begun, attempts[number][0] or 0)
    return limits
