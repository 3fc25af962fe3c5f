"""What trainers reported, in and out of the `event` table: storing, listing, log lines."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import bindparam, text
from sqlmodel import Session, col, func, select

from nat_core.events import (
    AnyEvent,
    EvaluationEvent,
    LogEvent,
    MetricsEvent,
    StateEvent,
    evaluation_path,
    parse_event,
)
from nat_core.records import RunState
from server import attempts, outcomes, rollup
from server.attempts import COUNTS
from server.tables import AttemptRow, EventRow, RunRow

ATTEMPT_STRIDE = 2**32
"""What `seq` goes up by from an attempt to the next one in what the API lists: no attempt has as many events."""

_ENOUGH = 200  # of the newest events, to find the newest value of every metric in

_INSERT = "INSERT INTO event (run_id, attempt, seq, type, step, time, body) VALUES (?, ?, ?, ?, ?, ?, ?)"


def store_events(
    session: Session, run: RunRow, attempt: int, events: Sequence[AnyEvent], folder: Sequence[int] = ()
) -> list[AnyEvent]:
    """Store a batch; what is there already stays as it is. Returns the events that were new to the run.

    `folder` lists the earlier attempts in the folder that the batch comes from (see `attempts.note_start`).
    """
    if not events:
        return []
    known = session.exec(
        select(func.max(EventRow.seq)).where(EventRow.run_id == run.id, EventRow.attempt == attempt)
    ).one()
    fresh = _not_stored(session, run, attempt, events, known or 0)
    rows = [
        (run.id, attempt, event.seq, event.type, event.step, event.time, event.model_dump_json()) for event in fresh
    ]
    if rows:
        session.connection().exec_driver_sql(_INSERT, rows)
    rollup.store(session, run.id, attempt, [event for event in events if isinstance(event, MetricsEvent)])
    if fresh and RunState(run.state).is_final:
        outcomes.forget(session, run.id)
    for event in events:
        if isinstance(event, StateEvent) and event.phase == "started":
            _begin(session, run, attempt, event, folder)
    if attempt == run.attempt:
        _apply(run, events, known or 0)
    else:
        _fill(session, run, attempt, events)
    return fresh


def _not_stored(session: Session, run: RunRow, attempt: int, events: Sequence[AnyEvent], known: int) -> list[AnyEvent]:
    """Those of a batch that are not there yet, each once; `known` is the last that is."""
    numbers = [event.seq for event in events]
    there: set[int] = set()
    if min(numbers) <= known:
        found = select(EventRow.seq).where(EventRow.run_id == run.id, EventRow.attempt == attempt)
        there = set(session.exec(found.where(col(EventRow.seq).between(min(numbers), max(numbers)))))
    if not there and len(set(numbers)) == len(numbers):
        return list(events)
    return list({event.seq: event for event in reversed(events) if event.seq not in there}.values())[::-1]


def _begin(session: Session, run: RunRow, attempt: int, event: StateEvent, folder: Sequence[int]) -> None:
    """What an attempt that goes on from a checkpoint leaves behind is out of the newest values, too."""
    if attempts.note_start(session, run, attempt, event, folder) and attempt == run.attempt:
        bodies = session.execute(
            text(
                f"SELECT body FROM event {COUNTS} WHERE event.run_id = :run AND event.attempt < :attempt "
                "AND type IN ('metrics', 'evaluation') ORDER BY event.attempt DESC, seq DESC LIMIT :enough"
            ),
            {"run": run.id, "attempt": attempt, "enough": _ENOUGH},
        ).scalars()
        latest: dict[str, float | None] = {}
        for body in bodies:
            latest = {**values_of(parse_event(body)), **latest}
        run.latest = latest


def _apply(run: RunRow, events: Iterable[AnyEvent], known: int) -> None:
    """Bring the run's newest values up to date; a late event fills gaps but replaces nothing newer."""
    latest, step = dict(run.latest), run.step
    for event in events:
        values = values_of(event)
        if event.seq > known:
            latest.update(values)
        else:
            latest = {**values, **latest}
        step = max(step, event.step)
        if isinstance(event, StateEvent) and event.hardware is not None:
            run.hardware = event.hardware
    run.latest, run.step = latest, max(run.step, min(step, run.steps))


def _fill(session: Session, run: RunRow, attempt: int, events: Iterable[AnyEvent]) -> None:
    """The same with what an earlier attempt's folder still held when a later one had begun."""
    row = session.get(AttemptRow, (run.id, attempt))
    latest = dict(run.latest)
    for event in events:
        if row is not None and (row.kept_to is None or event.step <= row.kept_to):
            latest = {**values_of(event), **latest}
    run.latest = latest


def values_of(event: AnyEvent) -> dict[str, float | None]:
    """The metrics that an event carries."""
    if isinstance(event, MetricsEvent):
        return {key: value for key, value in event.values.items() if evaluation_path(key) is None}
    if isinstance(event, EvaluationEvent):
        return dict(event.metric_values())
    return {}


def last_seqs(session: Session, run: RunRow) -> dict[int, int]:
    """By attempt, the last event up to which none is missing: where a resend must begin."""
    counts = session.exec(
        select(EventRow.attempt, func.count(), func.max(EventRow.seq))
        .where(EventRow.run_id == run.id)
        .group_by(col(EventRow.attempt))
    )
    found = {attempt: (number, highest) for attempt, number, highest in counts}
    return {
        attempt: number if number == highest else _first_hole(session, run, attempt)
        for attempt in range(1, run.attempt + 1)
        for number, highest in [found.get(attempt, (0, 0))]
    }


def _first_hole(session: Session, run: RunRow, attempt: int) -> int:
    """The last event before the first one that is missing."""
    sequence = session.exec(
        select(EventRow.seq).where(EventRow.run_id == run.id, EventRow.attempt == attempt).order_by(col(EventRow.seq))
    )
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(sequence, itertools.count(1))))


def list_events(
    session: Session, run: RunRow, type: str | Sequence[str] | None, after_seq: int, limit: int
) -> list[AnyEvent]:
    """The run's history in order, without what a restart superseded.

    `seq` counts on over attempts as told in `ATTEMPT_STRIDE`, so that it can serve as a cursor.
    """
    types = [type] if isinstance(type, str) else list(type or ())
    kind = "AND type IN :types" if types else ""
    query = text(
        f"SELECT event.attempt, body FROM event {COUNTS} WHERE event.run_id = :run {kind} "
        "AND (event.attempt, seq) > (:attempt, :seq) ORDER BY event.attempt, seq LIMIT :limit"
    )
    found = session.execute(
        query.bindparams(bindparam("types", expanding=True)) if types else query,
        {
            "run": run.id,
            **({"types": types} if types else {}),
            "attempt": after_seq // ATTEMPT_STRIDE + 1,
            "seq": after_seq % ATTEMPT_STRIDE,
            "limit": limit,
        },
    )
    events = [(attempt, parse_event(body)) for attempt, body in found]
    return [event.model_copy(update={"seq": (attempt - 1) * ATTEMPT_STRIDE + event.seq}) for attempt, event in events]


def log_lines(session: Session, run: RunRow, limit: int = 1000) -> list[str]:
    """The newest log events, oldest first, each as one line, between the lines that tell of each attempt."""
    query = (
        select(EventRow.attempt, EventRow.body)
        .where(EventRow.run_id == run.id, EventRow.type == "log")
        .order_by(col(EventRow.attempt).desc(), col(EventRow.seq).desc())
        .limit(limit)
    )
    said: dict[int, list[str]] = defaultdict(list)
    for attempt, body in session.exec(query):
        if isinstance(event := parse_event(body), LogEvent):
            said[attempt].insert(0, _line(datetime.fromtimestamp(event.time, UTC), event.level, event.message))
    lines = []
    for row in attempts.of_run(session, run.id):
        if row.number > 1:
            begun = f"attempt {row.number} was taken by worker {row.worker_id}"
            lines.append(_line(row.claimed_at, "info", begun))
        lines += said[row.number]
        if row.reason is not None and row.ended_at is not None:
            ended = f"attempt {row.number} ended: {row.reason}: {row.message}"
            lines.append(_line(row.ended_at, "warning", ended))
    return lines


def _line(time: datetime, level: str, message: str) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} {level:7} {' '.join(message.split())}"
