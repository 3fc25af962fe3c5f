"""Placing labels beside points so that none covers another, a point or an interval.

Works in pixels of a plot of nominal size: labels keep their pixel offsets when the real plot is
larger, so what does not overlap here does not overlap there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CHAR_WIDTH = 5.8
LINE_HEIGHT = 16.0
POINT_RADIUS = 8.0


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)


@dataclass(frozen=True)
class Point:
    """A point with its interval, in pixels from the plot's top left corner."""

    x: float
    y: float
    top: float
    bottom: float

    @property
    def boxes(self) -> tuple[Box, Box]:
        r = POINT_RADIUS
        return (
            Box(self.x - r, self.y - r, self.x + r, self.y + r),
            Box(self.x - 3, self.top, self.x + 3, self.bottom),
        )


@dataclass(frozen=True)
class Label:
    """Where a label goes: offset in pixels from its point, and which of its ends is held there."""

    dx: float
    dy: float
    anchor: str  # left, center or right: the end of the text at the offset
    box: Box


def place_labels(
    texts: Sequence[str], points: Sequence[Point], width: float, height: float, others: Sequence[Box] = ()
) -> list[Label]:
    """One label for each point, each where it covers least; earlier texts choose first. `others` is taken already."""
    taken = [box for point in points for box in point.boxes] + list(others)
    plot = Box(0, 0, width, height)
    placed: list[Label] = []
    for text, point in zip(texts, points, strict=True):
        candidates = _candidates(text, point)
        best = min(candidates, key=lambda label: _cost(label.box, taken, plot))
        placed.append(best)
        taken.append(best.box)
    return placed


def line_boxes(start: Point, end: Point) -> list[Box]:
    """A straight line between two points as small boxes along it."""
    steps = max(1, int(math.hypot(end.x - start.x, end.y - start.y) / 6))
    spots = [(start.x + (end.x - start.x) * i / steps, start.y + (end.y - start.y) * i / steps) for i in range(steps)]
    return [Box(x - 2, y - 2, x + 2, y + 2) for x, y in spots]


def first_free(boxes: Sequence[Box], taken: Sequence[Box]) -> int:
    """Which of the boxes covers least of what is taken; the first one on a tie."""
    costs = [sum(box.overlap(other) for other in taken) for box in boxes]
    return costs.index(min(costs))


def _cost(box: Box, taken: Sequence[Box], plot: Box) -> float:
    outside = box.area - box.overlap(plot)
    return sum(box.overlap(other) for other in taken) + 3 * outside


def _candidates(text: str, point: Point) -> list[Label]:
    gap, rise = 11.0, 13.0
    above, below = point.top - point.y - 10, point.bottom - point.y + 10
    spots = [
        (gap, -rise, "left"),
        (gap, rise, "left"),
        (-gap, -rise, "right"),
        (-gap, rise, "right"),
        (gap, 0.0, "left"),
        (-gap, 0.0, "right"),
        (0.0, above, "center"),
        (0.0, below, "center"),
        (-gap, above, "right"),  # beyond the ends of neighbours' intervals, too
        (gap, above, "left"),
        (-gap, below, "right"),
        (gap, below, "left"),
        (gap, -2 * rise, "left"),
        (gap, 2 * rise, "left"),
        (-gap, -2 * rise, "right"),
        (-gap, 2 * rise, "right"),
    ]
    return [Label(dx, dy, anchor, _text_box(text, point.x + dx, point.y + dy, anchor)) for dx, dy, anchor in spots]


def _text_box(text: str, x: float, y: float, anchor: str) -> Box:
    width = CHAR_WIDTH * len(text)
    left = {"left": x, "center": x - width / 2, "right": x - width}[anchor]
    return Box(left, y - LINE_HEIGHT / 2, left + width, y + LINE_HEIGHT / 2)
