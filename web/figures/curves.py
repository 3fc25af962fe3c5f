"""Curves of an experiment: one line a budget, over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nat_core.events import MetricInfo
from web.figures.axes import Axes
from web.figures.chart import Chart
from web.figures.lines import Line, line_chart
from web.palette import Palette

_PLAIN = Axes()
OWN_BAND = "band: 95% for these questions"
"""What a band around the line of a single run is, as a caption says it."""


@dataclass(frozen=True)
class Curve:
    """One metric of one run."""

    label: str
    cell: int
    seed: int
    biased: bool
    finished: bool
    x: Sequence[float]
    y: Sequence[float | None]
    band: tuple[Sequence[float | None], Sequence[float | None]] | None = None  # ends of its own interval


def curves_chart(
    info: MetricInfo, curves: Sequence[Curve], palette: Palette, axes: Axes = _PLAIN, over: bool = False
) -> Chart:
    """Overlaid curves, coloured by cell; biased budgets are dashed.

    Finished runs of a cell become their mean, with a band from the lowest to the highest seed. Runs
    still going stay thin lines of their own: averaging them in would make the mean jump where one ends.
    """
    cells = sorted({curve.cell for curve in curves})
    lines = [line for cell in cells for line in _cell_lines([c for c in curves if c.cell == cell], axes.x)]
    chart = line_chart(info, lines, palette, axes, over)
    own = any(curve.band is not None for curve in curves)
    seeds = any(line.low is not None for line in lines) and not all(curve.band is not None for curve in curves)
    told = chart.caption + (", mean and range of seeds" if seeds else "") + (f"; {OWN_BAND}" if own else "")
    return replace(chart, caption=told) if chart.num_points else chart


def _cell_lines(curves: Sequence[Curve], x: str) -> list[Line]:
    finished = [curve for curve in curves if curve.finished and curve.x]
    going = [curve for curve in curves if not curve.finished]
    lines = [_mean_line(finished, x)] if len(finished) > 1 else [_own_line(c, len(curves) > 1) for c in finished]
    return lines + [_own_line(curve, len(curves) > 1, thin=bool(finished) or len(going) > 1) for curve in going]


def _own_line(curve: Curve, with_seed: bool, thin: bool = False) -> Line:
    name = f"{curve.label}, seed {curve.seed}" if with_seed else curve.label
    low, high = curve.band or (None, None)
    return Line(name, curve.cell, curve.x, curve.y, low, high, dashed=curve.biased, thin=thin)


def _mean_line(curves: Sequence[Curve], x: str) -> Line:
    """Mean, lowest and highest over seeds: of the same step, or else of the same position in the series."""
    rows = _by_step(curves) if x == "step" else _by_position(curves)
    first = curves[0]
    return Line(
        name=f"{first.label}, {len(curves)} seeds",
        cell=first.cell,
        x=[at for at, _ in rows],
        y=[sum(values) / len(values) for _, values in rows],
        low=[min(values) for _, values in rows],
        high=[max(values) for _, values in rows],
        dashed=first.biased,
    )


def _by_step(curves: Sequence[Curve]) -> list[tuple[float, list[float]]]:
    """Of the steps that every curve has that goes so far: a step of one curve alone would be no mean."""
    told: dict[float, list[float | None]] = {}
    for curve in curves:
        for step, value in zip(curve.x, curve.y, strict=True):
            told.setdefault(step, []).append(value)
    spans = [(curve.x[0], curve.x[-1]) for curve in curves]
    rows = []
    for step, values in sorted(told.items()):
        known = [value for value in values if value is not None]
        if known and len(values) == sum(first <= step <= last for first, last in spans):
            rows.append((step, known))
    return rows


def _by_position(curves: Sequence[Curve]) -> list[tuple[float, list[float]]]:
    """Of the curves that go so far: one seed that failed early does not end the line of the others.

    The mean of their places may lie behind that of all of them; what would lead backwards is left out.
    """
    rows: list[tuple[float, list[float]]] = []
    for position in range(max(len(curve.x) for curve in curves)):
        there = [curve for curve in curves if position < len(curve.x)]
        at = sum(curve.x[position] for curve in there) / len(there)
        values = [value for curve in there if (value := curve.y[position]) is not None]
        if values and (not rows or at >= rows[-1][0]):
            rows.append((at, values))
    return rows
