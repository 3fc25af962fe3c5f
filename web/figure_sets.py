"""Which figures a page has, by name: records and a way to load series in, charts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from nat_core.comparison import Comparison
from nat_core.events import METRICS
from nat_core.records import ExperimentRecord, MetricSeries, RunRecord
from web.figures import Axes, Chart, Curve, Line, curves_chart, line_chart, savings_chart, tradeoff_chart
from web.figures.chart import empty_chart
from web.palette import Palette
from web.views import savings_cell

_PLAIN = Axes()

# (run ids, metric keys) -> series
LoadSeries = Callable[[list[str], list[str]], list[MetricSeries]]

# Metrics that are read together: the second one is drawn behind the first, in grey. The share of the
# generated tokens says more than the baseline's count; accuracy has the baseline's curve where there is one.
COMPANIONS = {"tokens/selected": "tokens/generated", "eval/accuracy": "eval/accuracy_greedy"}
_BEFORE_BASELINE = ("tokens/selected",)


def experiment_figures(
    names: Iterable[str],
    experiment: ExperimentRecord,
    comparison: Comparison,
    load: LoadSeries,
    palette: Palette,
    *,
    axes: Axes = _PLAIN,
    cost: str = "share",
    cell: int | None = None,
    compact: bool = False,
) -> dict[str, Chart]:
    """The figures of an experiment's page; names that it has not are left out, and so are archived runs."""
    wanted = list(names)
    keys = [name for name in wanted if name in METRICS]
    charts: dict[str, Chart] = {}
    if "tradeoff" in wanted:
        charts["tradeoff"] = tradeoff_chart(comparison, palette, cost, compact)
    if "savings" in wanted:
        charts["savings"] = _savings(comparison, cell, palette, compact)
    if keys:
        series = load([run.id for run in experiment.runs if not run.archived], keys)
        for key in keys:
            curves = experiment_curves(experiment, [s for s in series if s.key == key])
            charts[key] = curves_chart(METRICS[key], curves, palette, axes)
    return charts


def experiment_curves(experiment: ExperimentRecord, series: Sequence[MetricSeries]) -> list[Curve]:
    """One curve a run that has values."""
    by_run = {one.run_id: one for one in series}
    return [
        Curve(
            label=run.label,
            cell=run.cell,
            seed=run.seed,
            biased=experiment.spec.budgets[run.cell].biased,
            finished=run.state.is_final,
            x=by_run[run.id].x,
            y=by_run[run.id].y,
        )
        for run in experiment.runs
        if run.id in by_run
    ]


def run_figures(
    names: Iterable[str],
    run: RunRecord,
    baseline: RunRecord | None,
    load: LoadSeries,
    palette: Palette,
    axes: Axes = _PLAIN,
) -> dict[str, Chart]:
    """The figures of a run's page: the run in its cell's colour, its baseline of the same seed in grey behind it."""
    keys = [name for name in names if name in METRICS]
    if not keys:
        return {}
    partners = {key: COMPANIONS[key] for key in keys if key in COMPANIONS and (not baseline or key in _BEFORE_BASELINE)}
    runs = [run.id] + ([baseline.id] if baseline else [])
    found = {(s.run_id, s.key): s for s in load(runs, sorted({*keys, *partners.values()}))}
    charts = {}
    for key in keys:
        lines = [_line(found.get((run.id, key)), METRICS[key].label, run.cell)]
        partner = partners.get(key)
        if partner is not None:
            lines.append(_line(found.get((run.id, partner)), METRICS[partner].label, run.cell, muted=True))
        elif baseline is not None:
            lines.append(_line(found.get((baseline.id, key)), baseline.label, baseline.cell, muted=True))
        chart = line_chart(METRICS[key], lines, palette, axes)
        told = (
            f"{chart.caption}; dotted: {METRICS[partner].label.lower()}"
            if partner and chart.num_points
            else chart.caption
        )
        charts[key] = replace(chart, caption=told)
    return charts


def _line(series: MetricSeries | None, name: str, cell: int, muted: bool = False) -> Line:
    return Line(name, cell, series.x if series else [], series.y if series else [], muted=muted)


def _savings(comparison: Comparison, chosen: int | None, palette: Palette, compact: bool) -> Chart:
    others = [cell for cell in comparison.cells if cell.cell != comparison.baseline]
    if not others:
        return empty_chart("Savings need a second budget beside the baseline.")
    shown = chosen if chosen in [cell.cell for cell in others] else savings_cell(comparison)
    cell = next((cell for cell in others if cell.cell == shown), others[0])
    return savings_chart(cell, comparison.cells[comparison.baseline].label, palette, compact)
