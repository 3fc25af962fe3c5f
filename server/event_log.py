"""What trainers reported, in and out of the `event` table: storing, series, sums, log lines."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Session, col, func, select

from nat_core.comparison import RunOutcome
from nat_core.events import (
    METRICS,
    AnyEvent,
    EvaluationEvent,
    LogEvent,
    MetricsEvent,
    StateEvent,
    parse_event,
)
from nat_core.records import MetricSeries, RunState
from server.errors import BadQueryError
from server.tables import EventRow, RunRow

X_AXES: dict[str, str | None] = {
    "step": None,
    "tokens_selected": "tokens/selected",
    "tokens_generated": "tokens/generated",
    "update_s": "timing_s/update",
    "wall_s": None,
}
"""What a series can be drawn against: the step, the sum so far of a metric, or the time since the first event."""

_EVALUATION_KEYS = {
    "eval/accuracy": "$.accuracy",
    "eval/accuracy_greedy": "$.accuracy_greedy",
    "eval/mean_length": "$.mean_length",
}
"""Metrics that evaluation events carry, and where."""


def store_events(session: Session, run: RunRow, attempt: int, events: Sequence[AnyEvent]) -> bool:
    """Store a batch; what is there already stays as it is. Returns whether anything was new to the run."""
    if not events:
        return False
    known = session.exec(
        select(func.max(EventRow.seq)).where(EventRow.run_id == run.id, EventRow.attempt == attempt)
    ).one()
    rows = [
        {
            "run_id": run.id,
            "attempt": attempt,
            "seq": event.seq,
            "type": event.type,
            "step": event.step,
            "time": event.time,
            "body": event.model_dump_json(),
        }
        for event in events
    ]
    stored = session.connection().execute(insert(EventRow).on_conflict_do_nothing(), rows)
    if attempt == run.attempt:
        _apply(run, events, known or 0)
    return stored.rowcount > 0


def _apply(run: RunRow, events: Iterable[AnyEvent], known: int) -> None:
    """Bring the run's newest values up to date; a late event fills gaps but replaces nothing newer."""
    latest = dict(run.latest)
    for event in events:
        values = values_of(event)
        latest = {**latest, **values} if event.seq > known else {**values, **latest}
        run.step = max(run.step, min(event.step, run.steps))
        if isinstance(event, StateEvent) and event.hardware is not None:
            run.hardware = event.hardware
    run.latest = latest


def values_of(event: AnyEvent) -> dict[str, float | None]:
    """The metrics that an event carries."""
    if isinstance(event, MetricsEvent):
        return {key: value for key, value in event.values.items() if key not in _EVALUATION_KEYS}
    if isinstance(event, EvaluationEvent):
        greedy = {} if event.accuracy_greedy is None else {"eval/accuracy_greedy": event.accuracy_greedy}
        return {"eval/accuracy": event.accuracy, **greedy, "eval/mean_length": event.mean_length}
    return {}


def last_seq(session: Session, run: RunRow) -> int:
    """The last event up to which none is missing in the newest attempt: where a resend must begin."""
    mine = (EventRow.run_id == run.id, EventRow.attempt == run.attempt)
    number, highest = session.exec(select(func.count(), func.max(EventRow.seq)).where(*mine)).one()
    if number == (highest or 0):
        return int(number)
    sequence = session.exec(select(EventRow.seq).where(*mine).order_by(col(EventRow.seq)))
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(sequence, itertools.count(1))))


def list_events(session: Session, run: RunRow, type: str | None, after_seq: int, limit: int) -> list[AnyEvent]:
    query = select(EventRow.body).where(
        EventRow.run_id == run.id, EventRow.attempt == run.attempt, EventRow.seq > after_seq
    )
    if type is not None:
        query = query.where(EventRow.type == type)
    return [parse_event(body) for body in session.exec(query.order_by(col(EventRow.seq)).limit(limit))]


def log_lines(session: Session, run: RunRow, limit: int = 1000) -> list[str]:
    """The newest log events, oldest first, each as one line."""
    query = (
        select(EventRow.body)
        .where(EventRow.run_id == run.id, EventRow.attempt == run.attempt, EventRow.type == "log")
        .order_by(col(EventRow.seq).desc())
        .limit(limit)
    )
    found = [event for body in session.exec(query) if isinstance(event := parse_event(body), LogEvent)]
    return [
        f"{datetime.fromtimestamp(event.time, UTC):%Y-%m-%d %H:%M:%S} {event.level:7} {' '.join(event.message.split())}"
        for event in reversed(found)
    ]


# --- series ---------------------------------------------------------------------------------------


def metric_series(
    session: Session, run_ids: list[str], keys: list[str], x: str, since: int | None, max_points: int | None
) -> list[MetricSeries]:
    """One series for each run and key that has values; `since` leaves out steps up to and including it."""
    for key in keys:
        if key not in METRICS:
            raise BadQueryError(f"keys holds {key[:80]!r}, which is no metric; choose from nat_core.events.METRICS")
    if x not in X_AXES:
        raise BadQueryError(f"x is {x[:80]!r}, but it is one of {', '.join(X_AXES)}; choose one")
    places = _places(session, run_ids, x)
    series = []
    for key in keys:
        points = _points(session, run_ids, key)
        for run_id in run_ids:
            steps = [step for step, _ in points.get(run_id, [])]
            values = [value for _, value in points.get(run_id, [])]
            xs = [float(step) for step in steps] if places is None else places(run_id, steps)
            shown = [index for index, step in enumerate(steps) if since is None or step > since]
            shown = thin(shown, values, max_points)
            if shown:
                y = [values[index] for index in shown]
                series.append(MetricSeries(run_id=run_id, key=key, x=[xs[index] for index in shown], y=y))
    return series


def _places(session: Session, run_ids: list[str], x: str) -> Callable[[str, Sequence[int]], list[float]] | None:
    """Where a run's steps stand on the axis; None where the step itself is the axis."""
    if x == "wall_s":
        times = {run_id: _elapsed(session, run_id) for run_id in run_ids}
        return lambda run_id, steps: running_sum(times[run_id], steps)
    summed = X_AXES[x]
    if summed is None:
        return None
    sums = _points(session, run_ids, summed)
    return lambda run_id, steps: running_sum(sums.get(run_id, []), steps)


def _elapsed(session: Session, run_id: str) -> list[tuple[int, float | None]]:
    """For each step the seconds by which it ended later than the one before it, from the attempt's first event on."""
    query = text(
        "SELECT event.step, MAX(event.time) FROM event JOIN run ON run.id = event.run_id "
        "WHERE run_id = :run AND event.attempt = run.attempt AND type IN ('metrics', 'evaluation') "
        "GROUP BY event.step ORDER BY event.step"
    )
    first = text(
        "SELECT MIN(event.time) FROM event JOIN run ON run.id = event.run_id "
        "WHERE run_id = :run AND event.attempt = run.attempt"
    )
    before = session.execute(first, {"run": run_id}).scalar()
    gaps: list[tuple[int, float | None]] = []
    for step, time in session.execute(query, {"run": run_id}):
        gaps.append((step, max(0.0, time - before)))
        before = max(time, before)
    return gaps


def running_sum(points: Sequence[tuple[int, float | None]], steps: Sequence[int]) -> list[float]:
    """For each of `steps`, the sum of the values up to and including it."""
    at = [step for step, _ in points]
    sums = [0.0, *itertools.accumulate(value or 0.0 for _, value in points)]
    return [sums[bisect_right(at, step)] for step in steps]


def thin(indices: list[int], values: Sequence[float | None], max_points: int | None) -> list[int]:
    """At most `max_points` of the indices: of each of equal buckets its lowest, highest and last value.

    Spikes survive, and the same points come out every time: drawing at random loses both.
    """
    if max_points is None or len(indices) <= max_points:
        return indices
    buckets = max(1, max_points // 3)
    kept: set[int] = set()
    for bucket in range(buckets):
        part = indices[bucket * len(indices) // buckets : (bucket + 1) * len(indices) // buckets]
        known = [(value, index) for index in part if (value := values[index]) is not None]
        if known:
            kept.update((min(known)[1], max(known)[1]))
        kept.add(part[-1])
    return sorted(kept)


def _points(session: Session, run_ids: list[str], key: str) -> dict[str, list[tuple[int, float | None]]]:
    """(step, value) in order for each run's newest attempt; null where the value was not finite."""
    path = _EVALUATION_KEYS.get(key, f'$.values."{key}"')
    kind = "evaluation" if key in _EVALUATION_KEYS else "metrics"
    missing = "json_type(body, :path) IS NOT NULL" if kind == "metrics" else "json_extract(body, :path) IS NOT NULL"
    query = text(
        "SELECT event.step, json_extract(body, :path) FROM event JOIN run ON run.id = event.run_id "
        f"WHERE run_id = :run AND event.attempt = run.attempt AND type = :kind AND {missing} ORDER BY seq"
    )
    return {
        run_id: [(step, value) for step, value in session.execute(query, {"path": path, "kind": kind, "run": run_id})]
        for run_id in run_ids
    }


# --- sums -----------------------------------------------------------------------------------------

_SUMS = {
    "tokens_generated": "tokens/generated",
    "tokens_selected": "tokens/selected",
    "tokens_trunk": "tokens/trunk",
    "forward_backward_s": "timing_s/forward_backward",
    "update_s": "timing_s/update",
    "step_s": "timing_s/step",
}


def outcome(session: Session, run: RunRow) -> RunOutcome:
    """What the comparison needs of one run: sums over its newest attempt, and its latest evaluation."""
    columns = [f"""TOTAL(json_extract(body, '$.values."{key}"'))""" for key in _SUMS.values()]
    mine = "FROM event WHERE run_id = :run AND attempt = :attempt"
    names = {"run": run.id, "attempt": run.attempt}
    *sums, peak = session.execute(
        text(
            f"""SELECT {", ".join(columns)}, MAX(json_extract(body, '$.values."perf/peak_memory_gib"'))
            {mine} AND type = 'metrics'"""
        ),
        names,
    ).one()
    evaluation = session.execute(
        text(f"SELECT body {mine} AND type = 'evaluation' ORDER BY seq DESC LIMIT 1"), names
    ).scalar()
    latest = parse_event(evaluation) if evaluation is not None else None
    answered = latest if isinstance(latest, EvaluationEvent) else None
    return RunOutcome(
        run_id=run.id,
        cell=run.cell,
        seed=run.seed,
        state=RunState(run.state),
        step=run.step,
        accuracy=answered.accuracy if answered else None,
        num_answers=answered.num_prompts * answered.num_samples if answered else 0,
        peak_memory_gib=peak,
        hardware=run.hardware,
        **dict(zip(_SUMS, sums, strict=True)),
    )
