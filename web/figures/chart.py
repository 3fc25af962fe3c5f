"""What every chart is made of: a figure without a size or a background, a sentence, a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nat_core.events import MetricInfo
from web.formatting import NOTHING, count, percent, significant
from web.palette import Palette

Figure = dict[str, Any]
_NAMED_UNITS = ("s", "GiB", "tokens/s", "nats", "cores", "W")
_SMALL_SHARE = 0.01  # below it a single decimal of a per cent says too little
FONT = 'Inter, system-ui, -apple-system, "Segoe UI", sans-serif'


@dataclass(frozen=True)
class Chart:
    """A figure and what it says. `num_points` counts the values drawn; with 0 the page shows `summary` instead."""

    figure: Figure
    summary: str
    num_points: int
    caption: str = ""
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "summary": self.summary,
            "num_points": self.num_points,
            "caption": self.caption,
            "table": {"columns": self.columns, "rows": self.rows},
        }


def empty_chart(summary: str) -> Chart:
    """A chart that has nothing to draw yet, and says so."""
    return Chart(figure={"data": [], "layout": {}}, summary=summary, num_points=0)


def base_layout(palette: Palette, **more: Any) -> dict[str, Any]:
    """Layout that all charts share: unsized, on the panel's ground, keeping the reader's zoom on every refresh."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": palette.panel,  # Plotly draws the line under the pointer on it, and takes see-through for white
        "font": {"family": FONT, "size": 12, "color": palette.ink_3},
        "hoverlabel": {
            "bgcolor": palette.panel,
            "bordercolor": palette.line,
            "namelength": -1,  # Plotly would cut names at 15 letters, where budgets of one selector are still the same
            "font": {"family": FONT, "size": 12, "color": palette.ink},
        },
        "showlegend": False,
        "uirevision": "keep",
        **more,
    }


def axis(palette: Palette, **more: Any) -> dict[str, Any]:
    """A quiet axis: thin grid, no zero line of its own weight."""
    return {
        "gridcolor": palette.line,
        "zeroline": False,
        # Ticks that are not seen hold the labels off the plot, so that the two zeros do not meet.
        "ticks": "outside",
        "ticklen": 5,
        "tickcolor": "rgba(0,0,0,0)",
        "automargin": False,
        "fixedrange": False,
        **more,
    }


def metric_value(info: MetricInfo, value: float | None) -> str:
    """A metric's value with its unit, as people read it."""
    if value is None:
        return NOTHING
    if info.unit == "share":
        return f"{significant(100 * value, 2)}%" if 0 < abs(value) < _SMALL_SHARE else percent(value)
    if info.unit == "tokens":
        return count(value)
    if info.unit == "FLOP":
        return f"{count(value)} FLOP"
    text = significant(value)
    return f"{text} {info.unit}" if info.unit in _NAMED_UNITS else text


def metric_hover_format(info: MetricInfo) -> str:
    """The same as a d3 format for the hover label: never with an exponent, which `g` would take from 1,000 on."""
    if info.unit == "share":
        return "%{y:.3~p}"
    if info.unit == "tokens":
        return "%{y:,.0f}"
    if info.unit == "FLOP":
        return "%{y:.3~s}FLOP"
    suffix = f" {info.unit}" if info.unit in _NAMED_UNITS else ""
    return "%{y:,.4~r}" + suffix
