"""Series of metrics as charts want them: against the step or a running sum, thinned where they are long."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlmodel import Session

from nat_core.events import evaluation_path, metric_info
from nat_core.records import MetricSeries
from server import attempts, rollup
from server.attempts import COUNTS
from server.errors import BadQueryError
from server.tables import AttemptRow, RunRow

Point = tuple[int, float | None]
Places = Callable[[str, Sequence[int]], list[float]]
"""Where on the axis the steps of a run stand."""

_NO_END = 2**60

X_AXES: dict[str, str | None] = {
    "step": None,
    "tokens_selected": "tokens/selected",
    "tokens_generated": "tokens/generated",
    "update_s": "timing_s/update",
    "wall_s": None,
}
"""What a series can be drawn against: the step, the sum so far of a metric, or the time it took so far."""


@dataclass(frozen=True)
class Thinning:
    """How a long line is made short enough to be drawn.

    Args:
        max_points: about as many points of each line; None takes every one.
        ends: take the last value of every bucket alone. These are of the same steps in every run of as many steps, so
            that means over runs can be taken; lowest and highest values are of steps of their own.
        within: the part of the axis that is looked at, which is thinned by itself: the closer, the more is seen.
            Of what means are taken of it is heeded over the step alone, where runs have the same places.
    """

    max_points: int | None = None
    ends: bool = False
    within: tuple[float, float] | None = None


WHOLE = Thinning()


def metric_series(
    session: Session,
    run_ids: list[str],
    keys: list[str],
    x: str,
    since: int | None = None,
    thinning: Thinning = WHOLE,
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
    windows = {run_id: _window(run, places, thinning) for run_id, (run, _) in told.items()}
    series = []
    for key in keys:
        for run_id in run_ids:
            line = _Line(session, *told[run_id], key, thinning, by_step=places is None)
            points = line.points(after)
            if (window := windows[run_id]) is not None:
                first, last = max(window[0], after + 1), window[1]
                near = line.points(first - 1, last)
                points = [p for p in points if p[0] < first] + near + [p for p in points if p[0] > last]
            steps = [step for step, _ in points]
            if steps:
                xs = [float(step) for step in steps] if places is None else places(run_id, steps)
                series.append(MetricSeries(run_id=run_id, key=key, x=xs, y=[value for _, value in points]))
    return series


def _window(run: RunRow, places: Places | None, thinning: Thinning) -> tuple[int, int] | None:
    """The first and the last step that lie within the part of the axis that is looked at."""
    if thinning.within is None or (thinning.ends and places is not None):
        return None
    low, high = thinning.within
    if places is None:
        return max(0, math.ceil(low)), min(run.step, math.floor(high))
    xs = places(run.id, range(run.step + 1))
    return bisect_left(xs, low), bisect_right(xs, high) - 1


def _places(session: Session, run_ids: list[str], x: str) -> Places | None:
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


@dataclass(frozen=True)
class _Line:
    """One metric of one run, as it is to be drawn."""

    session: Session
    run: RunRow
    tries: Sequence[AttemptRow]
    key: str
    thinning: Thinning
    by_step: bool

    def points(self, after: int, upto: int = _NO_END) -> list[Point]:
        """Those of the steps after `after` and up to `upto`, thinned."""
        ends = self.thinning.ends
        size = self._bucket_size(after, upto) if self.by_step or ends else None
        if size is not None:
            points = self._rolled_up(size, after, upto)
        else:
            points = _points(self.session, self.run.id, self.key, None, after, upto)
        return points if ends else thin(points, self.thinning.max_points)

    def _bucket_size(self, after: int, upto: int) -> int | None:
        """None where the line is short enough to be read event by event.

        The ends of buckets are of a size that the planned steps ask for: it is the same for runs that ended early.
        """
        if self.thinning.max_points is None or evaluation_path(self.key) is not None:
            return None
        last = min(upto, self.run.steps if self.thinning.ends else self.run.step)
        return rollup.size_for(last - max(0, after), self.thinning.max_points)

    def _rolled_up(self, size: int, after: int, upto: int) -> list[Point]:
        """From buckets; one that is cut through, by a restart or by where the reader is, is read event by event."""
        parts: dict[int | tuple[int, int], list[Point]] = {}
        for attempt in self.tries:
            kept_to = min(upto, self.run.steps if attempt.kept_to is None else attempt.kept_to)
            for bucket in rollup.read(self.session, self.run.id, attempt.number, self.key, size, after, kept_to):
                if bucket.start > after and bucket.last_step <= kept_to:
                    found = bucket.points()
                else:
                    between = max(bucket.start - 1, after), min(bucket.start + size - 1, kept_to)
                    found = _points(self.session, self.run.id, self.key, attempt.number, *between)
                if self.thinning.ends:  # where a restart cut through, the end is that of the attempt after it
                    parts[bucket.start] = found[-1:]
                else:
                    parts[attempt.number, bucket.start] = found
        return [point for part in parts.values() for point in part]


def _points(
    session: Session, run_id: str, key: str, attempt: int | None = None, after: int = -1, upto: int = _NO_END
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
