"""The update step drawn: for each arm seconds and peak memory, a bar each, with what counted FLOPs would give."""

from __future__ import annotations

from typing import Any

from web.figures.chart import axis, base_layout
from web.palette import LIGHT

Row = dict[str, Any]

WIDTH, BAR, GAP, LEFT, RIGHT, TOP, BOTTOM = 1000, 34, 96, 150, 24, 74, 44
COLUMNS = {
    "seconds": ("forward and backward", "s", (0.0, 0.56)),
    "peak_gib": ("peak memory above weights", "GiB", (0.66, 1.0)),
}
TITLES = {
    "sequences": "as many sequences a micro-batch for everyone",
    "tokens": "as many tokens a micro-batch at most for everyone",
}


def figure(report: dict[str, Any]) -> dict[str, Any]:
    """The whole figure as Plotly JSON: an arm below the other."""
    arms = report["arms"]
    inner = sum(BAR * len(rows) for rows in arms.values()) + GAP * (len(arms) - 1)
    height = TOP + BOTTOM + inner
    layout = base_layout(LIGHT, width=WIDTH, height=height, margin={"l": LEFT, "r": RIGHT, "t": TOP, "b": BOTTOM})
    layout |= {"paper_bgcolor": LIGHT.panel, "annotations": [], "bargap": 0.35, "barmode": "overlay"}
    data: list[dict[str, Any]] = []
    top = 1.0
    for place, (arm, rows) in enumerate(arms.items()):
        bottom = max(0.0, top - BAR * len(rows) / inner)
        layout["annotations"].append(_text(f"<b>{TITLES[arm]}</b>", 0.0, top, 26, LIGHT.ink))
        for column, (name, (title, unit, span)) in enumerate(COLUMNS.items()):
            if not all(name in row for row in rows):
                continue
            number = 2 * place + column + 1
            suffix = "" if number == 1 else str(number)
            layout[f"xaxis{suffix}"] = axis(LIGHT, domain=span, anchor=f"y{suffix}", rangemode="tozero")
            rows_axis = {"showticklabels": column == 0, "autorange": "reversed", "showgrid": False}
            layout[f"yaxis{suffix}"] = axis(LIGHT, domain=(bottom, top), anchor=f"x{suffix}", **rows_axis)
            layout["annotations"].append(_text(f"{title}, {unit}", span[0], top, 6, LIGHT.ink_2))
            data += _bars(rows, name, unit, suffix)
        top = bottom - GAP / inner
    notes = "Thin marks: what the counted FLOPs make of <i>full</i>'s time."
    layout["annotations"].append(_text(notes, 0.0, 1.0, 50, LIGHT.ink_2))
    return {"data": data, "layout": layout}


def _bars(rows: list[Row], name: str, unit: str, suffix: str) -> list[dict[str, Any]]:
    labels = [row["name"] for row in rows]
    base = rows[0]
    where = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
    drawn: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [row[name] for row in rows],
            "y": labels,
            "marker": {"color": [_color(row, place) for place, row in enumerate(rows)]},
            "text": [f" {row[name]:.3g} {unit} ({row[name] / base[name]:.0%})" for row in rows],
            "textposition": "auto",
            "cliponaxis": False,
            "hovertemplate": "%{y}: %{text}<extra></extra>",
            **where,
        }
    ]
    if name == "seconds":
        ours = [row for row in rows if row["name"] != "TRL"]
        drawn.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [base["seconds"] * row["flops_share"] for row in ours],
                "y": [row["name"] for row in ours],
                "marker": {"symbol": "line-ns", "size": 22, "line": {"width": 2, "color": LIGHT.ink}},
                "hovertemplate": "counted FLOPs: %{x:.3g} s<extra></extra>",
                **where,
            }
        )
    return drawn


def _color(row: Row, place: int) -> str:
    return LIGHT.ink_3 if row["name"] == "TRL" else LIGHT.cell(place)


def _text(text: str, x: float, y: float, shift: float, color: str) -> dict[str, Any]:
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
        "font": {"size": 13 if color == LIGHT.ink else 12, "color": color},
    }
