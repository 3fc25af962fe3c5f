"""Series of metrics as charts want them: against the step or a running sum, thinned where they are long."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Sequence

from sqlalchemy import text
from sqlmodel import Session

from nat_core.events import evaluation_path, metric_info
from nat_core.records import MetricSeries
from server import attempts, rollup
from server.attempts import COUNTS
from server.errors import BadQueryError
from server.tables import AttemptRow, RunRow

Point = tuple[int, float | None]

X_AXES: dict[str, str | None] = {
    "step": None,
    "tokens_selected": "tokens/selected",
    "tokens_generated": "tokens/generated",
    "update_s": "timing_s/update",
    "wall_s": None,
}
"""What a series can be drawn against: the step, the sum so far of a metric, or the time it took so far."""


def metric_series(
    session: Session, run_ids: list[str], keys: list[str], x: str, since: int | None, max_points: int | None
) -> list[MetricSeries]:
    """One series for each run and key that has values; `since` leaves out steps up to and including it."""
    for key in keys:
        if metric_info(key) is None:
            raise BadQueryError(f"keys holds {key[:80]!r}, which is no metric; choose from nat_core.events.METRICS")
    if x not in X_AXES:
        raise BadQueryError(f"x is {x[:80]!r}, but it is one of {', '.join(X_AXES)}; choose one")
    after = -1 if since is None else since
    places = _places(session, run_ids, x)
    told = {run_id: (session.get_one(RunRow, run_id), attempts.of_run(session, run_id)) for run_id in run_ids}
    series = []
    for key in keys:
        for run_id in run_ids:
            points = _rolled_up(session, *told[run_id], key, after, max_points) if places is None else None
            if points is None:
                points = [point for point in _points(session, run_id, key) if point[0] > after]
            points = thin(points, max_points)
            steps = [step for step, _ in points]
            if steps:
                xs = [float(step) for step in steps] if places is None else places(run_id, steps)
                series.append(MetricSeries(run_id=run_id, key=key, x=xs, y=[value for _, value in points]))
    return series


def _places(session: Session, run_ids: list[str], x: str) -> Callable[[str, Sequence[int]], list[float]] | None:
    """Where a run's steps stand on the axis; None where the step itself is the axis."""
    if x == "wall_s":
        gaps = {run_id: _elapsed(session, run_id) for run_id in run_ids}
        return lambda run_id, steps: running_sum(gaps[run_id], steps)
    summed = X_AXES[x]
    if summed is None:
        return None
    sums = {run_id: _points(session, run_id, summed) for run_id in run_ids}
    return lambda run_id, steps: running_sum(sums[run_id], steps)


def _elapsed(session: Session, run_id: str) -> list[tuple[int, float | None]]:
    """For each step the seconds by which it ended later than the one before it; an attempt's clock starts anew.

    Time between attempts, and what was done twice, are the fault's and not the budget's.
    """
    query = text(
        "SELECT event.attempt, event.step, MAX(event.time), "
        "(SELECT MIN(first.time) FROM event AS first WHERE first.run_id = :run AND first.attempt = event.attempt) "
        f"FROM event {COUNTS} WHERE event.run_id = :run AND type IN ('metrics', 'evaluation') "
        "GROUP BY event.attempt, event.step ORDER BY event.attempt, event.step"
    )
    newest: dict[int, float] = {}
    gaps: list[tuple[int, float | None]] = []
    for attempt, step, time, first in session.execute(query, {"run": run_id}):
        before = newest.get(attempt, first)
        gaps.append((step, max(0.0, time - before)))
        newest[attempt] = max(time, before)
    return gaps


def running_sum(points: Sequence[tuple[int, float | None]], steps: Sequence[int]) -> list[float]:
    """For each of `steps`, the sum of the values up to and including it."""
    at = [step for step, _ in points]
    sums = [0.0, *itertools.accumulate(value or 0.0 for _, value in points)]
    return [sums[bisect_right(at, step)] for step in steps]


def thin(points: list[Point], max_points: int | None) -> list[Point]:
    """At most `max_points` of the points: of each of equal buckets the lowest, the highest and the last one.

    Spikes survive, and the same points come out every time: drawing at random loses both.
    """
    if max_points is None or len(points) <= max_points:
        return points
    buckets = max(1, max_points // 3)
    kept: list[Point] = []
    for bucket in range(buckets):
        part = points[bucket * len(points) // buckets : (bucket + 1) * len(points) // buckets]
        known = [(value, index) for index, (_, value) in enumerate(part) if value is not None]
        places = {min(known)[1], max(known)[1]} if known else set()
        kept += [part[index] for index in sorted(places | {len(part) - 1})]
    return kept


def _rolled_up(
    session: Session, run: RunRow, tries: Sequence[AttemptRow], key: str, after: int, max_points: int | None
) -> list[Point] | None:
    """The points after a step from buckets; None where the line is short enough to be read event by event."""
    size = None if max_points is None else rollup.size_for(run.step - max(0, after), max_points)
    if size is None or evaluation_path(key) is not None:
        return None
    points: list[Point] = []
    for attempt in tries:
        kept_to = run.steps if attempt.kept_to is None else attempt.kept_to
        for bucket in rollup.read(session, run.id, attempt.number, key, size, after):
            if bucket.start > after and bucket.last_step <= kept_to:
                points += bucket.points()
            elif bucket.start <= kept_to:  # cut through by a restart, or by where the reader is
                ends = max(bucket.start - 1, after), min(bucket.start + size - 1, kept_to)
                points += _points(session, run.id, key, attempt.number, *ends)
    return points


def _points(
    session: Session, run_id: str, key: str, attempt: int | None = None, after: int = -1, upto: int = 2**60
) -> list[Point]:
    """(step, value) in order, every step once; null where the value was not finite. Of one attempt if it is given."""
    evaluated = evaluation_path(key)
    path, kind = (evaluated, "evaluation") if evaluated else (f'$.values."{key}"', "metrics")
    missing = "json_type(body, :path) IS NOT NULL" if kind == "metrics" else "json_extract(body, :path) IS NOT NULL"
    query = text(
        f"SELECT event.step, json_extract(body, :path) FROM event {COUNTS} "
        f"WHERE event.run_id = :run AND type = :kind AND {missing} AND event.step > :after AND event.step <= :upto "
        f"{'' if attempt is None else 'AND event.attempt = :attempt '}ORDER BY event.attempt, seq"
    )
    names = {"path": path, "kind": kind, "run": run_id, "after": after, "upto": upto, "attempt": attempt}
    return [(step, value) for step, value in session.execute(query, names)]
