"""A chart of lines over steps, tokens or seconds: what all curves are drawn with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nat_core.events import MetricInfo, Panel
from web.figures.axes import X_HOVER, X_TITLES, Axes, smoothed
from web.figures.chart import Chart, axis, base_layout, empty_chart, metric_hover_format, metric_value
from web.formatting import count, significant, uncapital
from web.palette import Palette, faded

_FROM_ZERO = ("s", "GiB", "tokens", "tokens/s", "cores", "W", "FLOP")
_FEW_POINTS = 16
_BAND, _BAND_OF_MANY, _FEW_BANDS = 0.14, 0.1, 2  # how opaque a band is; many over each other are fainter
_TINY, _HUGE = 1e-3, 1e4  # beyond them a number is too long for a tick
_CLOSE_TICKS = ((0.004, 60), (0.04, 52))  # shares that lie within so much, and the room that their ticks take
_PLAIN = Axes()


@dataclass(frozen=True)
class Line:
    """One line. `cell` chooses its colour; `low` and `high` make a band around it."""

    name: str
    cell: int
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    dashed: bool = False
    muted: bool = False  # a reference to read the others against, in grey
    thin: bool = False  # one of several, or not finished
    faint: bool = False  # the values themselves, behind their smoothed line


def line_chart(
    info: MetricInfo, lines: Sequence[Line], palette: Palette, axes: Axes = _PLAIN, over: bool = False
) -> Chart:
    """Lines of one metric; where there is none yet, it is said, or that there is none where the runs are `over`.

    Costs start at zero; other metrics take the range they need.

    Smoothed lines have the values themselves faint behind them; bands, summary and table stay those of the values.
    A logarithmic axis is given to metrics whose values are all above zero, and to no other.
    """
    x = axes.x
    drawn = [line for line in lines if any(value is not None for value in line.y)]
    if not drawn:
        told = uncapital(info.label)
        return empty_chart(
            f"No {told} was reported." if over else f"No {told} yet; the line starts with the first value."
        )
    banded = sum(line.low is not None for line in drawn)
    traces = [
        trace for line in drawn for trace in _band(line, palette, _BAND if banded <= _FEW_BANDS else _BAND_OF_MANY)
    ]
    shown = [part for line in sorted(drawn, key=lambda line: not line.muted) for part in _parts(line, axes.smooth)]
    traces += [_line(line, info, palette) for line in sorted(shown, key=lambda line: not line.faint)]
    log = axes.log and _lowest(drawn) > 0
    layout = base_layout(
        palette,
        margin={"l": _left_margin(info, drawn), "r": 10, "t": 8, "b": 30},
        xaxis=axis(
            palette,
            showgrid=False,
            showline=True,
            linecolor=palette.line,
            nticks=6,
            unifiedhovertitle={"text": X_HOVER[x]},
            spikecolor=palette.ink_3,  # the line through the place that is pointed at: Plotly's is white in the dark
            spikethickness=1,
            spikedash="dot",
            tickformat="~s" if x.startswith("tokens") else "",
            # Markers want room at both ends, so that the one at step 0 is seen whole.
            rangemode="normal" if any(_few(line) for line in drawn) else "tozero",
            **_single_place(drawn),
        ),
        yaxis=axis(
            palette,
            nticks=5,
            tickformat=_tick_format(info, drawn),
            exponentformat="e",
            **_y_range(info, drawn, log),
        ),
        hovermode="x unified",
        uirevision=f"{x} {log}",
    )
    return Chart(
        figure={"data": traces, "layout": layout},
        summary=_summary(info, drawn, x),
        num_points=sum(_num_values(line) for line in drawn),
        caption=_caption(info, axes, log),
        columns=["Line", "First", "Latest", "Lowest", "Highest", "Points"],
        rows=[_table_row(line, info) for line in drawn],
    )


def _caption(info: MetricInfo, axes: Axes, log: bool) -> str:
    words = f"{_unit_words(info)}by {X_TITLES[axes.x]}"
    if axes.smooth > 0:
        words += f", smoothed {axes.smooth:g}"
    if log:
        words += ", log scale"
    return words + (", not log: some values are not above 0" if axes.log and not log else "")


def _lowest(lines: Sequence[Line]) -> float:
    """The lowest value drawn, bands included."""
    return min(value for line in lines for part in (line.y, line.low or ()) for value in part if value is not None)


def _parts(line: Line, smooth: float) -> list[Line]:
    """The line itself, or its values faint and their moving average; references and few points stay as they are."""
    if smooth <= 0 or _few(line):
        return [line]
    return [replace(line, faint=True), replace(line, y=smoothed(line.y, smooth), low=None, high=None)]


def _unit_words(info: MetricInfo) -> str:
    words = {"share": "%", "s": "seconds", "GiB": "GiB", "tokens": "tokens", "nats": "nats", "W": "watts"}
    words |= {unit: unit for unit in ("tokens/s", "cores", "FLOP")}
    return f"{words[info.unit]}, " if info.unit in words else ""


def _y_range(info: MetricInfo, lines: Sequence[Line], log: bool) -> dict[str, Any]:
    """Values that are all the same get a range of their own: Plotly's would reach from minus one to one."""
    if log:
        return {"type": "log", "dtick": "D1" if _decades(lines) < 1.5 else 1}
    value = next(value for line in lines for value in line.y if value is not None)
    if _from_zero(info):
        return {"rangemode": "tozero"}
    if _span(lines) > 0:
        return {"rangemode": "normal"}
    if info.unit == "share":
        return {"range": [max(0.0, value - 0.1), min(1.0, value + 0.1)]}
    return {"range": [0.9 * value, 1.1 * value] if value > 0 else [value - 1, value + 1]}


def _from_zero(info: MetricInfo) -> bool:
    return info.unit in _FROM_ZERO or info.panel is Panel.SYSTEM


def _single_place(lines: Sequence[Line]) -> dict[str, Any]:
    """An axis with a single place on it has a single tick: Plotly would count off fractions of a step."""
    places = {x for line in lines for x, _ in _known(line)}
    if len(places) != 1:
        return {}
    (place,) = places
    return {"range": [place - 1, place + 1], "tickvals": [place]}


def _decades(lines: Sequence[Line]) -> float:
    values = [value for line in lines for value in line.y if value is not None]
    return math.log10(max(values) / min(values))


def _tick_format(info: MetricInfo, lines: Sequence[Line]) -> str:
    """Shares with as many decimals as their ticks have, and no more: of a fixed number two ticks may read the same.

    Others as they are, unless that would be too long for the margin: 5e−5 and 20k.
    """
    if info.unit == "share":
        return "~%"
    largest = max(abs(value) for line in lines for value in line.y if value is not None)
    if 0 < largest < _TINY:
        return ""  # Plotly's own, which `exponentformat` makes 5e−5, and 0 of nothing
    return "~s" if info.unit.startswith("tokens") or largest >= _HUGE else "~g"


def _left_margin(info: MetricInfo, lines: Sequence[Line]) -> int:
    """Room for the ticks: closer ones have more decimals."""
    close = info.unit == "share" and not _from_zero(info) and _span(lines) > 0
    return next((width for span, width in _CLOSE_TICKS if close and _span(lines) <= span), 46)


def _span(lines: Sequence[Line]) -> float:
    values = [value for line in lines for value in line.y if value is not None]
    return max(values) - min(values)


def _color(line: Line, palette: Palette) -> str:
    color = palette.ink_3 if line.muted else palette.cell(line.cell)
    if line.faint:
        return faded(color, 0.28)
    return faded(color, 0.5) if line.thin else color


def _num_values(line: Line) -> int:
    return sum(value is not None for value in line.y)


def _few(line: Line) -> bool:
    """Whether each value gets a marker."""
    return _num_values(line) == 1 or (_num_values(line) <= _FEW_POINTS and not line.muted)


def _line(line: Line, info: MetricInfo, palette: Palette) -> dict[str, Any]:
    few = _few(line)
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers" if few else "lines",
        "name": line.name,
        "meta": {"cell": line.cell},
        "x": _short(line.x),
        "y": _short(line.y),
        "connectgaps": True,
        "line": {
            "color": _color(line, palette),
            "width": 1.2 if line.thin or line.muted else 2,
            "dash": "dot" if line.muted else "dash" if line.dashed else "solid",
        },
        "hovertemplate": metric_hover_format(info),
    }
    if line.faint:  # one label a line: that of its average
        trace |= {"hoverinfo": "skip", "hovertemplate": None, "name": f"{line.name}, values", "line": _faint(trace)}
    if few:
        trace["marker"] = {"size": 5 if _num_values(line) > 1 else 8, "color": _color(line, palette)}
    return trace


def _faint(trace: dict[str, Any]) -> dict[str, Any]:
    return {**trace["line"], "width": 1}


def _band(line: Line, palette: Palette, opacity: float) -> list[dict[str, Any]]:
    """The band as one closed outline, there along the highs and back along the lows."""
    if line.low is None or line.high is None:
        return []
    edges = [
        (x, low, high)
        for x, low, high in zip(line.x, line.low, line.high, strict=True)
        if low is not None and high is not None
    ]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"{line.name}, range",
            "meta": {"cell": line.cell},
            "x": _short([x for x, _, _ in edges] + [x for x, _, _ in reversed(edges)]),
            "y": _short([high for _, _, high in edges] + [low for _, low, _ in reversed(edges)]),
            "fill": "toself",
            "fillcolor": palette.cell_soft(line.cell, opacity),
            "line": {"width": 0},
            "hoverinfo": "skip",
        }
    ]


def _short(values: Sequence[float | None]) -> list[float | None]:
    """Six figures are more than a screen shows; all seventeen would treble what travels."""
    return [None if value is None else float(f"{value:.6g}") for value in values]


def _known(line: Line) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None]


def _x_value(x: str, value: float) -> str:
    if x == "step":
        return f"step {value:.0f}"
    return f"{count(value)} {X_TITLES[x]}" if x.startswith("tokens") else f"{significant(value)} {X_TITLES[x]}"


def _summary(info: MetricInfo, lines: Sequence[Line], x: str) -> str:
    parts = []
    for line in lines:
        known = _known(line)
        first, (last_x, last) = known[0][1], known[-1]
        parts.append(
            f"{line.name} from {metric_value(info, first)} to {metric_value(info, last)} at {_x_value(x, last_x)}"
        )
    shown = parts if len(parts) <= 8 else [*parts[:8], f"and {len(parts) - 8} more lines"]
    return f"{info.label}: {'; '.join(shown)}."


def _table_row(line: Line, info: MetricInfo) -> list[str]:
    values = [value for _, value in _known(line)]
    cells = (values[0], values[-1], min(values), max(values))
    return [line.name, *(metric_value(info, value) for value in cells), f"{len(values):,}"]
