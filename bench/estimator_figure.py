"""The estimator's numbers drawn: relative variance against FLOPs, a panel for each case and arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from statistics import median
from typing import Any

from bench.estimator_report import about, with_error
from web.figures.chart import axis, base_layout
from web.palette import LIGHT

Row = dict[str, Any]

WIDTH, PANEL_HEIGHT, GAP, LEFT, RIGHT, TOP, BOTTOM = 1120, 330, 118, 62, 12, 84, 60
FAMILIES = ("urs", "importance", "completions", "rpc", "truncate", "top surprisal")  # one colour each
ARMS = {"tokens": ("equal tokens", (0.0, 0.6)), "flops": ("equal FLOPs", (0.66, 1.0))}  # title, share of the width
_REACH = 6.0  # what is quieter than the median by more than this stands on the floor of the plot
_LABEL_STEP, _LABEL_WIDTH = 15.5, 176.0  # pixels


@dataclass(frozen=True)
class Panel:
    """Ranges of a plot and its size in pixels: from data to pixels and back."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float
    height: float

    def px(self, share: float) -> float:
        return (share - self.x[0]) / (self.x[1] - self.x[0]) * self.width

    def py(self, variance: float) -> float:
        high, low = log10(self.y[1]), log10(self.y[0])
        return (high - log10(variance)) / (high - low) * self.height


def figure(report: dict[str, Any]) -> dict[str, Any]:
    """The whole figure as Plotly JSON: a line of panels for each case, one panel for each arm."""
    cases = report["cases"]
    height = TOP + BOTTOM + len(cases) * PANEL_HEIGHT + (len(cases) - 1) * GAP
    plot_height = height - TOP - BOTTOM
    layout = base_layout(LIGHT, width=WIDTH, height=height, margin={"l": LEFT, "r": RIGHT, "t": TOP, "b": BOTTOM})
    layout |= {"paper_bgcolor": LIGHT.panel, "annotations": []}
    data: list[dict[str, Any]] = []
    for place, (name, case) in enumerate(cases.items()):
        top = 1 - place * (PANEL_HEIGHT + GAP) / plot_height
        bottom = max(0.0, top - PANEL_HEIGHT / plot_height)
        y_range = _variance_range(case["rows"])
        for column, (arm, (title, span)) in enumerate(ARMS.items()):
            rows = [row for row in case["rows"] if row["arm"] == arm and row["reached"]]
            number = 2 * place + column + 1
            panel = _panel(rows, y_range, (span[1] - span[0]) * (WIDTH - LEFT - RIGHT))
            layout |= _axes(number, panel, span, (bottom, top), first=column == 0)
            data += [_point(row, panel, number) for row in rows]
            layout["annotations"] += _labels(rows, panel, number)
            layout["annotations"].append(_heading(title, span[0], top, 8, 13))
        layout["annotations"].append(_heading(f"<b>{name}</b>  {about(case)}", 0.0, top, 32, 14))
    layout["annotations"].append(
        _heading("Filled: unbiased. Open: biased, its squared error. Bars: two standard errors.", 0.0, 1.0, 58, 12)
    )
    return {"data": data, "layout": layout}


# --- panels ---------------------------------------------------------------------------------------


def _variance_range(rows: Sequence[Row]) -> tuple[float, float]:
    """One range for all panels of a case, from the floor to a little above the noisiest."""
    found = [row["relative_variance"] for row in rows if row["reached"]]
    floor = max(min(found), median(found) / _REACH)
    return floor / 1.25, max(found) * 1.35


def _panel(rows: Sequence[Row], y_range: tuple[float, float], width: float) -> Panel:
    """Wide enough on the right for the labels of the points that stand there."""
    shares = [row["flops_share"] for row in rows]
    low, high = min(shares), max(shares)
    span = max(high - low, 0.1)
    pixels = width - _LABEL_WIDTH - 60
    start = low - 24 * span / pixels
    return Panel((start, start + width * span / pixels), y_range, width, PANEL_HEIGHT)


def _axes(
    number: int, panel: Panel, x: tuple[float, float], y: tuple[float, float], *, first: bool
) -> dict[str, dict[str, Any]]:
    suffix = "" if number == 1 else str(number)
    ticks = [share / 20 for share in range(1, 21) if panel.x[0] <= share / 20 <= panel.x[1]]
    ticks = ticks[:: 1 + len(ticks) // 9]
    decades = [v * 10.0**e for e in range(-8, 4) for v in (1, 2, 5) if panel.y[0] <= v * 10.0**e <= panel.y[1]]
    title = {"text": "relative variance" if first else "", "standoff": 6, "font": {"size": 12}}
    return {
        f"xaxis{suffix}": axis(
            LIGHT,
            domain=list(x),
            anchor=f"y{suffix}",
            range=list(panel.x),
            tickvals=ticks,
            tickformat=".0%",
            title={"text": "FLOPs of a step, share of full", "standoff": 4, "font": {"size": 12}},
        ),
        f"yaxis{suffix}": axis(
            LIGHT,
            domain=list(y),
            anchor=f"x{suffix}",
            type="log",
            range=[log10(edge) for edge in panel.y],
            tickvals=decades,
            ticktext=[f"{value:g}" for value in decades],
            title=title,
        ),
    }


def _height(row: Row, panel: Panel) -> float:
    """Where a point is drawn: on the floor where it would fall below."""
    return float(max(row["relative_variance"], panel.y[0] * 1.12))


def _point(row: Row, panel: Panel, number: int) -> dict[str, Any]:
    color, below = _color(row), row["relative_variance"] < _height(row, panel)
    error = 0.0 if below else 2 * row["relative_variance_se"]
    variance = with_error(row["relative_variance"], row["relative_variance_se"])
    return {
        "type": "scatter",
        "mode": "markers",
        "name": row["budget"],
        "xaxis": f"x{number}",
        "yaxis": f"y{number}",
        "x": [row["flops_share"]],
        "y": [_height(row, panel)],
        "error_y": {"type": "data", "array": [error], "color": color, "thickness": 1.5, "width": 0},
        "marker": {
            "size": 10,
            "symbol": "triangle-down" if below else "circle",
            "color": LIGHT.panel if row["biased"] else color,
            "line": {"color": color, "width": 2},
        },
        "hovertemplate": f"<b>{row['budget']}</b><br>relative variance {variance}<br>cosine {row['cosine']:.3f}<br>"
        f"FLOPs %{{x:.1%}}, varying by {row['flops_cv']:.1%}<extra></extra>",
    }


def _color(row: Row) -> str:
    family = next(place for place, family in enumerate(FAMILIES) if row["name"].startswith(family))
    return LIGHT.cell(family)


# --- labels ---------------------------------------------------------------------------------------


def _labels(rows: Sequence[Row], panel: Panel, number: int) -> list[dict[str, Any]]:
    """A column of labels right of each cloud of points, in the points' own order, each led to its point."""
    found: list[dict[str, Any]] = []
    for cloud in clouds(rows, panel):
        edge = max(panel.px(row["flops_share"]) for row in cloud) + 30
        ordered = sorted(cloud, key=lambda row: (panel.py(_height(row, panel)), row["flops_share"]))
        heights = [panel.py(_height(row, panel)) for row in ordered]
        for row, height, spot in zip(ordered, heights, spread(heights, _LABEL_STEP, panel.height), strict=True):
            below = row["relative_variance"] < _height(row, panel)
            tail = f"  ({row['relative_variance']:.0e})" if below else ""
            found.append(
                {
                    "xref": f"x{number}",
                    "yref": f"y{number}",
                    "x": row["flops_share"],
                    "y": log10(_height(row, panel)),
                    "ax": edge - panel.px(row["flops_share"]),
                    "ay": spot - height,
                    "xanchor": "left",
                    "text": row["budget"] + tail,
                    "arrowhead": 0,
                    "arrowwidth": 0.7,
                    "arrowcolor": LIGHT.ink_3,
                    "standoff": 6,
                    "bgcolor": LIGHT.panel,
                    "font": {"size": 12, "color": LIGHT.ink},
                }
            )
    return found


def clouds(rows: Sequence[Row], panel: Panel) -> list[list[Row]]:
    """Points by rising cost, parted where there is room for a column of labels between them."""
    found: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: row["flops_share"]):
        beside = found and panel.px(row["flops_share"]) - panel.px(found[-1][-1]["flops_share"]) < _LABEL_WIDTH + 30
        if beside:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def spread(heights: Sequence[float], step: float, limit: float) -> list[float]:
    """Rising heights moved until every two are at least `step` apart, as little as may be, within 0 to `limit`."""
    spots: list[float] = []
    blocks: list[list[float]] = []  # each a run of labels that touch: their wished-for starts
    for place, height in enumerate(heights):
        blocks.append([height - place * step])
        while len(blocks) > 1 and _middle(blocks[-2]) > _middle(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    for block in blocks:
        last_start = limit - (len(heights) - 1) * step
        start = max(0.0, min(_middle(block), last_start))
        spots += [start + (len(spots) + place) * step for place in range(len(block))]
    return spots


def _middle(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _heading(text: str, x: float, y: float, shift: float, size: int) -> dict[str, Any]:
    return {
        "xref": "paper",
        "yref": "paper",
        "x": x,
        "y": y,
        "yshift": shift,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "text": text,
        "font": {"size": size, "color": LIGHT.ink if size > 12 else LIGHT.ink_2},
    }
