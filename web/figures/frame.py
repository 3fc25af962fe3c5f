"""Where the points of the trade-off stand: the plot's ranges, its nominal size, and points set side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nat_core.comparison import CellComparison
from web.figures.labels import Point

# The plot's nominal inner size in pixels, wide and on a phone; only label placement depends on it.
WIDE, COMPACT = (600.0, 250.0), (270.0, 240.0)
_DODGE_PX = 13.0


@dataclass(frozen=True)
class Dot:
    cell: CellComparison
    x: float  # where it is drawn: beside its neighbour when both would be in one place
    cost: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Frame:
    """The plot's ranges and nominal size: from data to pixels and back."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: float
    height: float

    def px(self, x: float) -> float:
        return (x - self.x0) / (self.x1 - self.x0) * self.width

    def py(self, y: float) -> float:
        return (self.y1 - y) / (self.y1 - self.y0) * self.height

    def point(self, dot: Dot) -> Point:
        return Point(self.px(dot.x), self.py(dot.y), self.py(dot.high), self.py(dot.low))


def frame_of(dots: Sequence[Dot], baseline: Dot | None, margin: float, width: float, height: float) -> Frame:
    lows = [dot.low for dot in dots] + ([baseline.y - margin] if baseline else [])
    highs = [dot.high for dot in dots]
    # An interval of two seeds can be wider than all that is to be seen: it then runs off the plot.
    means = [dot.y for dot in dots]
    reach = max(0.06, 1.5 * (max(means) - min(means)))
    low, high = max(min(lows), min(means) - reach, 0.0), min(max(highs), max(means) + reach, 1.0)
    pad = max(0.15 * (high - low), 0.01)
    right = max(dot.cost for dot in dots)
    return Frame(0.0, 1.12 * right if right > 0 else 1.0, low - pad, high + pad, width, height)


def dodged(dots: Sequence[Dot], frame: Frame) -> list[Dot]:
    """Set points side by side that would stand in one place: their intervals would hide each other."""
    unit = (frame.x1 - frame.x0) / frame.width
    groups: list[list[Dot]] = []
    for dot in sorted(dots, key=lambda d: d.cost):
        near = (group for group in groups if _in_one_place(group, dot, _DODGE_PX * unit))
        group = next(near, None)
        if group is None:
            groups.append([dot])
        else:
            group.append(dot)
    moved = {}
    for group in groups:
        centre = sum(dot.cost for dot in group) / len(group)
        for rank, dot in enumerate(group):
            shift = (rank - (len(group) - 1) / 2) * _DODGE_PX * unit
            x = dot.cost if len(group) == 1 else centre + shift
            moved[dot.cell.cell] = Dot(dot.cell, x, dot.cost, dot.y, dot.low, dot.high)
    return [moved[dot.cell.cell] for dot in dots]


def _in_one_place(group: Sequence[Dot], dot: Dot, reach: float) -> bool:
    beside = dot.cost - group[-1].cost < reach
    return beside and any(other.low <= dot.high and dot.low <= other.high for other in group)
