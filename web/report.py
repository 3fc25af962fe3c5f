"""An experiment as one file: the page's answer, tables and figures, which open without a server or a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cache

from markupsafe import Markup

from nat_core.comparison import Comparison
from nat_core.events import Panel
from nat_core.records import ExperimentRecord
from web import views
from web.assets import FONT_URL, STATIC_DIR, plotly_script_path
from web.diff import differences
from web.figure_sets import LoadSeries, experiment_figures
from web.figures import X_AXES, Chart, savings_chart, tradeoff_chart
from web.figures.chart import Figure
from web.metrics import metrics_of
from web.pages import experiment_table
from web.palette import PALETTES, Palette
from web.templating import render
from web.view import TABLES, TableView


def report_page(experiment: ExperimentRecord, comparison: Comparison, load: LoadSeries) -> str:
    """The whole report. Its figures are those of the page, once in light and once in dark."""
    charts = {theme: _charts(experiment, comparison, load, palette) for theme, palette in PALETTES.items()}
    shown = charts["light"]
    metrics = metrics_of([experiment.spec.base])
    return render(
        "report.html",
        experiment=experiment,
        comparison=comparison,
        facts=views.experiment_facts(experiment),
        baseline_label=comparison.cells[comparison.baseline].label,
        charts=shown,
        costs=[f"tradeoff-{cost}" for cost in list(X_AXES)[1:]],
        savings=[name for name in shown if name.startswith("savings-")],
        panels={
            panel: [(key, info) for key, info in metrics.items() if key in shown and info.panel is panel]
            for panel in Panel
        },
        tables=[experiment_table(experiment, comparison, TableView(table=kind), {}) for kind in TABLES],
        differing=differences([budget.model_dump(mode="json") for budget in experiment.spec.budgets]),
        spec_yaml=views.as_yaml(experiment.spec.model_dump(mode="json")),
        hardware=views.experiment_hardware(experiment),
        style=_style(),
        script=_script(),
        plotly=_plotly(),
        figures=_as_json({theme: _figures(some) for theme, some in charts.items()}),
    )


def _figures(charts: Mapping[str, Chart]) -> dict[str, Figure]:
    return {name: chart.figure for name, chart in charts.items()}


def _charts(
    experiment: ExperimentRecord, comparison: Comparison, load: LoadSeries, palette: Palette
) -> dict[str, Chart]:
    """Every figure that has something to show, by name."""
    base = comparison.cells[comparison.baseline].label
    charts = {f"tradeoff-{cost}": tradeoff_chart(comparison, palette, cost) for cost in X_AXES}
    charts |= {
        f"savings-{cell.cell}": savings_chart(cell, base, palette, compact=True)
        for cell in comparison.cells
        if cell.cell != comparison.baseline
    }
    charts |= experiment_figures(metrics_of([experiment.spec.base]), experiment, comparison, load, palette)
    return {name: chart for name, chart in charts.items() if chart.num_points}


def _as_json(value: object) -> Markup:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


@cache
def _style() -> Markup:
    """The pages' styles with their font inside."""
    font = STATIC_DIR / "vendor" / FONT_URL.rsplit("/", 1)[1]
    data = base64.b64encode(font.read_bytes()).decode()
    css = "".join((STATIC_DIR / name).read_text(encoding="utf-8") for name in ("app.css", "parts.css"))
    return Markup(css.replace(FONT_URL, f"data:font/woff2;base64,{data}"))


@cache
def _script() -> Markup:
    return Markup((STATIC_DIR / "js" / "report.js").read_text(encoding="utf-8"))


@cache
def _plotly() -> Markup:
    return Markup(plotly_script_path().read_text(encoding="utf-8"))
