"""What a chart needs of a long run, kept as data arrive: of so many steps a metric's lowest, highest and last value.

A line of 100,000 steps is drawn from a few hundred rows instead of as many events. Taking an event in
twice changes nothing, as with the events themselves. A bucket belongs to one attempt; where a restart
or a reader cuts through one, the events in it are read instead (see `series`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlmodel import Session

from nat_core.events import MetricsEvent

SIZES = (16, 64, 512)
"""Steps to a bucket: each size for lines that the one before would draw with needlessly many points."""

_UPSERT = (
    "INSERT INTO bucket (run_id, attempt, key, size, start, lo, lo_step, hi, hi_step, last, last_step) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "lo_step = CASE WHEN lo IS NULL OR excluded.lo < lo THEN excluded.lo_step ELSE lo_step END, "
    "lo = CASE WHEN lo IS NULL OR excluded.lo < lo THEN excluded.lo ELSE lo END, "
    "hi_step = CASE WHEN hi IS NULL OR excluded.hi > hi THEN excluded.hi_step ELSE hi_step END, "
    "hi = CASE WHEN hi IS NULL OR excluded.hi > hi THEN excluded.hi ELSE hi END, "
    "last = CASE WHEN excluded.last_step >= last_step THEN excluded.last ELSE last END, "
    "last_step = max(excluded.last_step, last_step)"
)
_SELECT = (
    "SELECT start, lo, lo_step, hi, hi_step, last, last_step FROM bucket "
    "WHERE run_id = ? AND attempt = ? AND key = ? AND size = ? AND start > ? AND start <= ? ORDER BY start"
)


class Bucket(NamedTuple):
    """A metric's extremes and end within some steps; the extremes are None where no value was finite."""

    start: int
    lo: float | None
    lo_step: int
    hi: float | None
    hi_step: int
    last: float | None
    last_step: int

    def points(self) -> list[tuple[int, float | None]]:
        """Its one to three points, in order."""
        found: dict[int, float | None] = {self.last_step: self.last}
        if self.lo is not None:
            found[self.lo_step] = self.lo
        if self.hi is not None:
            found[self.hi_step] = self.hi
        return sorted(found.items())


def size_for(num_steps: int, max_points: int) -> int | None:
    """The largest size whose buckets, at three points each, come to half of `max_points`; None where none does."""
    fitting = [size for size in SIZES if 6 * num_steps >= max_points * size]
    return max(fitting) if fitting else None


def store(session: Session, run_id: str, attempt: int, events: Iterable[MetricsEvent]) -> None:
    """Take in what an attempt reported."""
    ordered = sorted(events, key=lambda event: event.step)
    rows = []
    for size in SIZES:
        for start, group in itertools.groupby(ordered, lambda event: event.step // size * size):  # noqa: B023
            rows += [(run_id, attempt, key, size, *bucket) for key, bucket in _folded(start, list(group))]
    if rows:
        session.connection().exec_driver_sql(_UPSERT, rows)


def read(
    session: Session, run_id: str, attempt: int, key: str, size: int, after: int, upto: int = 2**60
) -> list[Bucket]:
    """The buckets of one attempt that hold steps later than `after`, and none later than `upto` alone, in order."""
    names = (run_id, attempt, key, size, after + 1 - size, upto)
    rows = session.connection().exec_driver_sql(_SELECT, names).fetchall()
    return list(map(Bucket._make, rows))


def _folded(start: int, events: Sequence[MetricsEvent]) -> Iterable[tuple[str, Bucket]]:
    """Each metric's bucket over events of ascending steps."""
    keys = dict.fromkeys(itertools.chain.from_iterable(event.values for event in events))
    for key in keys:
        told = [event for event in events if key in event.values]
        steps, values = [event.step for event in told], [event.values[key] for event in told]
        known = values if None not in values else [value for value in values if value is not None]
        last, last_step = values[-1], steps[-1]
        if not known:
            yield key, Bucket(start, None, last_step, None, last_step, last, last_step)
            continue
        lo, hi = min(known), max(known)  # type: ignore[type-var]
        yield key, Bucket(start, lo, steps[values.index(lo)], hi, steps[values.index(hi)], last, last_step)
