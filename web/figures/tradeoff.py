"""Accuracy against what it cost: one point with its interval for each budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nat_core.comparison import CellComparison, Comparison, Estimate
from web.figures.chart import Chart, axis, base_layout, empty_chart
from web.figures.frame import COMPACT, WIDE, Dot, Frame, dodged, frame_of
from web.figures.labels import Box, Label, first_free, line_boxes, place_labels
from web.formatting import count, interval, number, percent, significant
from web.palette import Palette, faded


@dataclass(frozen=True)
class CostAxis:
    """What may stand on the horizontal axis."""

    title: str
    short: str
    value: Callable[[CellComparison], Estimate | None]
    shown: Callable[[float], str]
    tickformat: str


X_AXES: dict[str, CostAxis] = {
    "share": CostAxis("share of generated tokens trained on", "share", lambda c: c.fraction, percent, "~%"),
    "tokens": CostAxis("tokens trained on in the whole run", "tokens", lambda c: c.tokens_selected, count, "~s"),
    "seconds": CostAxis(
        "forward+backward seconds per step",
        "seconds",
        lambda c: c.forward_backward_s,
        lambda value: f"{significant(value)} s",
        "~g",
    ),
    "memory": CostAxis(
        "peak memory, GiB", "memory", lambda c: c.peak_memory_gib, lambda value: f"{significant(value)} GiB", "~g"
    ),
}

_CROWDED = 6
_CLOSE = 0.06  # an axis that spans less has ticks with decimals
_TEXT_WEIGHT = 5


def tradeoff_chart(comparison: Comparison, palette: Palette, x: str = "share", compact: bool = False) -> Chart:
    """Final accuracy of each budget, with its 95% interval, against what it cost.

    Args:
        comparison: the experiment's answer so far; cells without accuracy or cost are left out.
        x: a key of `X_AXES`.
        compact: place labels for a narrow plot.
    """
    cost_axis = X_AXES[x]
    dots = _dots(comparison, cost_axis)
    if not dots:
        return empty_chart("No budget has been evaluated yet; points appear with the first evaluation.")
    frame = frame_of(dots, _baseline_of(comparison, dots), comparison.margin, *(COMPACT if compact else WIDE))
    dots = dodged(dots, frame)
    front = _front(dots)
    line = [box for a, b in pairwise(front) for box in line_boxes(frame.point(a), frame.point(b))]
    points = [frame.point(dot) for dot in dots]
    texts = _label_texts(dots, front, comparison.baseline, compact)
    labels = place_labels(texts, points, frame.width, frame.height, line)
    shapes, annotations = _margin_band(comparison, dots, labels, frame, palette)
    named = zip(dots, texts, labels, strict=True)
    annotations += [_label_annotation(dot, label, palette) for dot, text, label in named if text]
    layout = base_layout(
        palette,
        margin={"l": 46 if frame.y1 - frame.y0 > _CLOSE else 52, "r": 14, "t": 10, "b": 48},
        xaxis=axis(
            palette,
            range=[frame.x0, frame.x1],
            tickformat=cost_axis.tickformat,
            showgrid=False,
            showline=True,
            linecolor=palette.line,
            nticks=6,
            title={"text": cost_axis.title, "standoff": 8, "font": {"size": 12}},
        ),
        # As many decimals as the ticks have: of close budgets whole per cents would read 84%, 84%, 84%.
        yaxis=axis(palette, range=[frame.y0, frame.y1], tickformat="~%", nticks=6),
        hovermode="closest",
        shapes=shapes,
        annotations=annotations,
        uirevision=x,
    )
    traces = _pareto_trace(front, palette) + [_dot_trace(dot, cost_axis, palette) for dot in dots]
    return Chart(
        figure={"data": traces, "layout": layout},
        summary=_summary(dots, cost_axis),
        num_points=len(dots),
        caption=f"{_which_accuracy(dots)} accuracy, 95% interval",
        columns=["Budget", "Accuracy", "95% interval", cost_axis.title[0].upper() + cost_axis.title[1:]],
        rows=[_table_row(dot, cost_axis) for dot in dots],
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, accuracy) points that no other beats in both, by rising cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    best = float("-inf")
    for index in order:
        if points[index][1] > best:
            front.append(index)
            best = points[index][1]
    return front


def _dots(comparison: Comparison, cost_axis: CostAxis) -> list[Dot]:
    dots = []
    for cell in comparison.cells:
        cost = cost_axis.value(cell)
        if cell.accuracy is None or cost is None:
            continue
        mean = cell.accuracy.mean
        low = mean if cell.accuracy.low is None else cell.accuracy.low
        high = mean if cell.accuracy.high is None else cell.accuracy.high
        dots.append(Dot(cell, cost.mean, cost.mean, mean, low, high))
    return dots


def _baseline_of(comparison: Comparison, dots: Sequence[Dot]) -> Dot | None:
    return next((dot for dot in dots if dot.cell.cell == comparison.baseline), None)


def _margin_band(
    comparison: Comparison, dots: Sequence[Dot], labels: Sequence[Label], frame: Frame, palette: Palette
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    baseline = _baseline_of(comparison, dots)
    if baseline is None:
        return [], []
    bottom = baseline.y - comparison.margin
    shape = {
        "type": "rect",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": bottom,
        "y1": baseline.y,
        "fillcolor": faded(palette.good, 0.12),
        "line": {"width": 0},
        "layer": "below",
    }
    margin_points = number(100 * comparison.margin, 0 if comparison.margin * 100 % 1 < 1e-9 else 1)
    text = f"margin: {margin_points} {'point' if margin_points == '1' else 'points'}"
    if frame.width >= WIDE[0]:
        text += f" below {baseline.cell.label}"
    points = [box for dot in dots for box in frame.point(dot).boxes]
    # On an interval it is still read, on another text neither is.
    taken = points + _TEXT_WEIGHT * [label.box for label in labels]
    spots = _note_spots(5.6 * len(text), frame, frame.py(bottom), frame.py(baseline.y))
    spot = spots[first_free([spot.box for spot in spots], taken)]
    note = {
        "xref": "paper",
        "x": {"left": 0, "center": 0.5, "right": 1}[spot.xanchor],
        "xanchor": spot.xanchor,
        "xshift": {"left": 4, "center": 0, "right": -4}[spot.xanchor],
        "y": baseline.y if spot.above else bottom,
        "yanchor": spot.yanchor,
        "text": text,
        "showarrow": False,
        "font": {"size": 11, "color": palette.ink_3},
    }
    return [shape], [note]


@dataclass(frozen=True)
class _Spot:
    """Where the margin's note may stand: its box, the ends that are held, and at which edge of the band."""

    box: Box
    xanchor: str
    yanchor: str
    above: bool


def _note_spots(width: float, frame: Frame, bottom: float, top: float) -> list[_Spot]:
    """In the band, then hanging below it, then above it; at the left, the right, the middle."""
    starts = {"left": 4.0, "right": frame.width - width - 4, "center": (frame.width - width) / 2}
    edges = [("bottom", bottom - 18, False), ("top", bottom, False), ("bottom", top - 18, True)]
    return [
        _Spot(Box(x, y, x + width, y + 18), xanchor, yanchor, above)
        for yanchor, y, above in edges
        for xanchor, x in starts.items()
    ]


def _label_annotation(dot: Dot, label: Label, palette: Palette) -> dict[str, Any]:
    return {
        "x": dot.x,
        "y": dot.y,
        "text": _plain(dot.cell.label),
        "showarrow": False,
        "xanchor": label.anchor,
        "yanchor": "middle",
        "xshift": label.dx,
        "yshift": -label.dy,
        "font": {"size": 12.5, "color": palette.ink},
    }


def _front(dots: Sequence[Dot]) -> list[Dot]:
    """The Pareto line's points; a cell without a finished run may still rise, and is left out."""
    done = [dot for dot in dots if dot.cell.num_finished > 0]
    return [done[i] for i in pareto_front([(dot.cost, dot.y) for dot in done])]


def _label_texts(dots: Sequence[Dot], front: Sequence[Dot], baseline: int, compact: bool) -> list[str]:
    """A label for every point; on a phone with many, for the Pareto line and the baseline alone."""
    named = {dot.cell.cell for dot in front} | {baseline}
    crowded = compact and len(dots) > _CROWDED
    return [dot.cell.label if not crowded or dot.cell.cell in named else "" for dot in dots]


def _pareto_trace(front: Sequence[Dot], palette: Palette) -> list[dict[str, Any]]:
    if len(front) < 2:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Pareto line",
            "x": [dot.x for dot in front],
            "y": [dot.y for dot in front],
            "line": {"color": palette.ink_3, "width": 1, "dash": "dash"},
            "hoverinfo": "skip",
        }
    ]


def _dot_trace(dot: Dot, cost_axis: CostAxis, palette: Palette) -> dict[str, Any]:
    color = palette.cell(dot.cell.cell)
    hover = f"<b>{_plain(dot.cell.label)}</b><br>{percent(dot.y)} {interval(dot.cell.accuracy, 100)}"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": dot.cell.label,
        "meta": {"cell": dot.cell.cell},
        "x": [dot.x],
        "y": [dot.y],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [dot.high - dot.y],
            "arrayminus": [dot.y - dot.low],
            "color": color,
            "thickness": 2,
            "width": 0,
        },
        # A biased budget is hollow: its shape says so, not only its colour.
        "marker": {
            "size": 12,
            "color": palette.panel if dot.cell.biased else color,
            "line": {"color": color, "width": 2.5},
        },
        "opacity": 1 if dot.cell.num_finished else 0.45,
        "hovertemplate": f"{hover}<br>{cost_axis.title}: {cost_axis.shown(dot.cost)}<extra></extra>",
    }


def _which_accuracy(dots: Sequence[Dot]) -> str:
    return "final" if all(dot.cell.num_finished == dot.cell.num_runs for dot in dots) else "latest"


def _plain(text: str) -> str:
    """Text that Plotly shall not read as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _summary(dots: Sequence[Dot], cost_axis: CostAxis) -> str:
    parts = [f"{dot.cell.label} {percent(dot.y)} at {cost_axis.shown(dot.cost)}" for dot in dots]
    return f"{_which_accuracy(dots).capitalize()} accuracy against {cost_axis.title}: {'; '.join(parts)}."


def _table_row(dot: Dot, cost_axis: CostAxis) -> list[str]:
    return [dot.cell.label, percent(dot.y), interval(dot.cell.accuracy, 100), cost_axis.shown(dot.cost)]
