"""What a budget saved against the baseline of the same seeds, beside what the paper reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nat_core.comparison import CellComparison, Estimate
from web.figures.chart import Chart, axis, base_layout, empty_chart
from web.formatting import NOTHING, change, signed
from web.palette import Palette


@dataclass(frozen=True)
class SavingRow:
    """One bar. `paper` is the share that *Not All Tokens Are Needed* (arXiv 2603.06619) reports saved at half the
    tokens, where it reports one."""

    key: str
    label: str
    paper: float | None


SAVING_ROWS = (
    SavingRow("tokens_selected", "Tokens trained on", 0.50),
    SavingRow("forward_backward_s", "Forward+backward", 0.29),
    SavingRow("peak_memory_gib", "Peak memory", 0.18),
    SavingRow("step_s", "Whole step", None),
)

# Shares of the axis that a number takes, wide and on a phone, and the gap beside it.
_TEXT, _TEXT_COMPACT, _GAP = 0.15, 0.24, 0.015
_HALF_BAR = 0.21


def savings_chart(cell: CellComparison, baseline_label: str, palette: Palette, compact: bool = False) -> Chart:
    """Horizontal bars of the shares saved. A cost that rose goes left of zero, in the colour of bad news."""
    if not cell.savings:
        return empty_chart(f"Savings of {cell.label} appear once it and {baseline_label} have finished with one seed.")
    shapes: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    left = min([0.0, *(estimate.mean for estimate in cell.savings.values())])
    left = left - 0.04 if left < 0 else 0.0
    for y, row in enumerate(SAVING_ROWS):
        estimate = cell.savings.get(row.key)
        shapes.append(_bar(0, 1, y, palette.line_2))
        if estimate is None:
            annotations.append(_text("not known", 0.01, y, "left", palette.ink_3))
            continue
        color = palette.cell(cell.cell) if estimate.mean >= 0 else palette.bad
        shapes.append(_bar(min(0, max(left, estimate.mean)), max(0, min(1, estimate.mean)), y, color))
        annotations += _numbers(estimate, row.paper, y, palette, _TEXT_COMPACT if compact else _TEXT)
        if row.paper is not None:
            shapes.append(_mark(row.paper, y, palette.ink))
            annotations.append(_paper_note(row.paper, y, palette))
    layout = base_layout(
        palette,
        margin={"l": 126, "r": 4, "t": 4, "b": 4},
        xaxis=axis(palette, range=[left, 1], visible=False, fixedrange=True),
        yaxis=axis(
            palette,
            range=[len(SAVING_ROWS) - 0.35, -0.45],
            tickvals=list(range(len(SAVING_ROWS))),
            ticktext=[row.label for row in SAVING_ROWS],
            tickfont={"size": 12, "color": palette.ink_2},
            ticklabelposition="outside left",
            showgrid=False,
            fixedrange=True,
        ),
        shapes=shapes,
        annotations=annotations,
        hovermode="closest",
        uirevision=str(cell.cell),
    )
    return Chart(
        figure={"data": [_hover_trace(cell, palette)], "layout": layout},
        summary=_summary(cell, baseline_label),
        num_points=sum(row.key in cell.savings for row in SAVING_ROWS),
        columns=["Cost", "Change", "95% interval", "Paper"],
        rows=[_table_row(cell.savings.get(row.key), row) for row in SAVING_ROWS],
    )


def saving_interval(estimate: Estimate) -> str:
    """The interval of the change in per cent, lower number first: `[−49, −43]`."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{signed(-100 * estimate.high, 0)}, {signed(-100 * estimate.low, 0)}]"


def _bar(x0: float, x1: float, y: float, color: str) -> dict[str, Any]:
    return {
        "type": "rect",
        "x0": x0,
        "x1": x1,
        "y0": y - _HALF_BAR,
        "y1": y + _HALF_BAR,
        "fillcolor": color,
        "line": {"width": 0},
        "layer": "below",
    }


def _mark(x: float, y: float, color: str) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "y0": y - _HALF_BAR - 0.07,
        "y1": y + _HALF_BAR + 0.07,
        "line": {"color": color, "width": 2},
    }


def _text(text: str, x: float, y: float, anchor: str, color: str, size: float = 12) -> dict[str, Any]:
    return {
        "x": x,
        "y": y,
        "text": text,
        "showarrow": False,
        "xanchor": anchor,
        "yanchor": "middle",
        "borderpad": 0,
        "font": {"size": size, "color": color},
    }


def _paper_note(paper: float, y: float, palette: Palette) -> dict[str, Any]:
    note = _text(f"paper {100 * paper:.0f}%", paper, y + _HALF_BAR + 0.1, "left", palette.ink_3, 11)
    return {**note, "yanchor": "top", "yshift": 2}


def _numbers(estimate: Estimate, paper: float | None, y: float, palette: Palette, width: float) -> list[dict[str, Any]]:
    """The change in bold, clear of the paper's mark, and its interval at the row's right end."""
    x, anchor, color = number_spot(estimate.mean, paper, width), "left", palette.ink
    if x < estimate.mean:  # inside the bar
        anchor, color = "right", palette.on_bar
    notes = [_text(f"<b>{change(estimate.mean)}</b>", x, y, anchor, color, 12.5)]
    if saving_interval(estimate) and x + width < 0.7:
        notes.append(_text(saving_interval(estimate), 0.985, y, "right", palette.ink_3, 11))
    return notes


def number_spot(saving: float, paper: float | None, width: float = _TEXT) -> float:
    """Where a bar's number is held: its right end inside a long bar, else its left end beyond a short one."""
    if saving >= width + 2 * _GAP:
        end = min(saving, 1) - _GAP
        crossed = paper is not None and end - width < paper < end + _GAP / 2
        if not crossed:
            return end
        assert paper is not None
        if paper - _GAP >= width:
            return paper - _GAP
    start = max(saving, 0) + _GAP
    if paper is not None and start - _GAP / 2 < paper < start + width:
        start = paper + _GAP
    return start


def _hover_trace(cell: CellComparison, palette: Palette) -> dict[str, Any]:
    """Bars are shapes, which have no hover; invisible points over them do."""
    rows = [(y, row, cell.savings[row.key]) for y, row in enumerate(SAVING_ROWS) if row.key in cell.savings]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": cell.label,
        "meta": {"cell": cell.cell},
        "x": [max(-1.0, min(1.0, estimate.mean)) / 2 for _, _, estimate in rows],
        "y": [y for y, _, _ in rows],
        "customdata": [estimate.mean for _, _, estimate in rows],
        "text": [f"<b>{row.label}</b><br>{change(e.mean, 1)} {saving_interval(e)}" for _, row, e in rows],
        "marker": {"size": 22, "opacity": 0, "color": palette.cell(cell.cell)},
        "hovertemplate": "%{text}<extra></extra>",
    }


def _summary(cell: CellComparison, baseline_label: str) -> str:
    parts = []
    for row in SAVING_ROWS:
        estimate = cell.savings.get(row.key)
        if estimate is not None:
            paper = f" (paper {change(row.paper)})" if row.paper is not None else ""
            parts.append(f"{row.label.lower()} {change(estimate.mean)}{paper}")
    return f"{cell.label} against {baseline_label}, same seeds: {', '.join(parts)}."


def _table_row(estimate: Estimate | None, row: SavingRow) -> list[str]:
    paper = NOTHING if row.paper is None else change(row.paper)
    if estimate is None:
        return [row.label, NOTHING, "", paper]
    return [row.label, change(estimate.mean, 1), saving_interval(estimate), paper]
