"""Series of metrics as charts want them: against the step or a running sum, thinned where they are long."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Sequence

from sqlalchemy import text
from sqlmodel import Session

from nat_core.events import METRICS
from nat_core.records import MetricSeries
from server.attempts import COUNTS
from server.errors import BadQueryError
from server.event_log import EVALUATION_KEYS

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
        gaps = {run_id: _elapsed(session, run_id) for run_id in run_ids}
        return lambda run_id, steps: running_sum(gaps[run_id], steps)
    summed = X_AXES[x]
    if summed is None:
        return None
    sums = _points(session, run_ids, summed)
    return lambda run_id, steps: running_sum(sums.get(run_id, []), steps)


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
    """(step, value) in order for each run, every step once; null where the value was not finite."""
    path = EVALUATION_KEYS.get(key, f'$.values."{key}"')
    kind = "evaluation" if key in EVALUATION_KEYS else "metrics"
    missing = "json_type(body, :path) IS NOT NULL" if kind == "metrics" else "json_extract(body, :path) IS NOT NULL"
    query = text(
        f"SELECT event.step, json_extract(body, :path) FROM event {COUNTS} "
        f"WHERE event.run_id = :run AND type = :kind AND {missing} ORDER BY event.attempt, seq"
    )
    return {
        run_id: [(step, value) for step, value in session.execute(query, {"path": path, "kind": kind, "run": run_id})]
        for run_id in run_ids
    }
