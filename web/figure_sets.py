"""Which figures a page has, by name: records and a way to load series in, charts out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from nat_core.comparison import Comparison
from nat_core.events import METRICS, MetricInfo, interval_keys, metric_info
from nat_core.records import ExperimentRecord, MetricSeries, RunRecord
from web.figures import Axes, Chart, Curve, Line, curves_chart, line_chart, savings_chart, tradeoff_chart
from web.figures.chart import empty_chart
from web.figures.curves import OWN_BAND
from web.palette import Palette
from web.views import savings_cell

_PLAIN = Axes()


class LoadSeries(Protocol):
    """Reads metrics of runs; with `ends` long lines are thinned so that means over runs can be taken."""

    def __call__(self, run_ids: list[str], keys: list[str], ends: bool = False) -> list[MetricSeries]: ...


# (run id, metric key) -> the lower and the upper ends of its values' own intervals
Bands = Mapping[tuple[str, str], tuple[MetricSeries, MetricSeries]]
NO_BANDS: Bands = {}

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
    keys = metric_keys(wanted)
    charts: dict[str, Chart] = {}
    if "tradeoff" in wanted:
        charts["tradeoff"] = tradeoff_chart(comparison, palette, cost, compact)
    if "savings" in wanted:
        charts["savings"] = _savings(comparison, cell, palette, compact)
    if keys:
        runs = [run for run in experiment.runs if not run.archived]
        cells = [run.cell for run in runs]
        series = load_curves(load, [[run for run in runs if run.cell == cell] for cell in dict.fromkeys(cells)], keys)
        bands = load_bands(load, [run.id for run in runs if cells.count(run.cell) == 1], keys)
        for key, info in keys.items():
            curves = experiment_curves(experiment, [s for s in series if s.key == key], bands)
            charts[key] = curves_chart(info, curves, palette, axes, over=all(run.state.is_final for run in runs))
    return charts


def metric_keys(names: Iterable[str]) -> dict[str, MetricInfo]:
    """Those of the names that are metrics, and what they mean."""
    return {name: info for name in names if (info := metric_info(name)) is not None}


def load_curves(load: LoadSeries, groups: Iterable[Sequence[RunRecord]], keys: Iterable[str]) -> list[MetricSeries]:
    """The series of runs in their groups; those that become a mean (see `curves_chart`) are read to be averaged."""
    alone, averaged = [], []
    for group in groups:
        ended = [run.id for run in group if run.state.is_final]
        averaged += ended if len(ended) > 1 else []
        alone += [run.id for run in group if len(ended) < 2 or not run.state.is_final]
    wanted = list(keys)
    return (load(alone, wanted) if alone else []) + (load(averaged, wanted, ends=True) if averaged else [])


def load_bands(load: LoadSeries, runs: list[str], keys: Iterable[str]) -> Bands:
    """The 95% intervals that runs report of their own values, by run and metric; of a single run they are all there is.

    Of several seeds the spread says more, and includes it.
    """
    ends = {key: both for key in keys if (both := interval_keys(key)) is not None}
    if not runs or not ends:
        return {}
    found = {(s.run_id, s.key): s for s in load(runs, [end for both in ends.values() for end in both])}
    return {
        (run, key): (found[run, low], found[run, high])
        for key, (low, high) in ends.items()
        for run in runs
        if (run, low) in found and (run, high) in found
    }


def band_of(series: MetricSeries, bands: Bands) -> tuple[Sequence[float | None], Sequence[float | None]] | None:
    """Lower and upper ends along a series; None where there are none, or not at every point of it."""
    ends = bands.get((series.run_id, series.key))
    return (ends[0].y, ends[1].y) if ends and all(list(end.x) == list(series.x) for end in ends) else None


def experiment_curves(
    experiment: ExperimentRecord, series: Sequence[MetricSeries], bands: Bands = NO_BANDS
) -> list[Curve]:
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
            band=band_of(by_run[run.id], bands),
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
    keys = metric_keys(names)
    if not keys:
        return {}
    partners = {key: COMPANIONS[key] for key in keys if key in COMPANIONS and (not baseline or key in _BEFORE_BASELINE)}
    runs = [run.id] + ([baseline.id] if baseline else [])
    found = {(s.run_id, s.key): s for s in load(runs, sorted({*keys, *partners.values()}))}
    bands = load_bands(load, [run.id], keys)
    charts = {}
    for key, info in keys.items():
        lines = [_line(found.get((run.id, key)), info.label, run.cell, bands)]
        partner = partners.get(key)
        if partner is not None:
            lines.append(_muted(found.get((run.id, partner)), METRICS[partner].label, run.cell))
        elif baseline is not None:
            lines.append(_muted(found.get((baseline.id, key)), baseline.label, baseline.cell))
        chart = line_chart(info, lines, palette, axes, over=run.state.is_final)
        told = [OWN_BAND] if lines[0].low is not None else []
        told += [f"dotted: {METRICS[partner].label.lower()}"] if partner and chart.num_points else []
        charts[key] = replace(chart, caption="; ".join([chart.caption, *told]))
    return charts


def _line(series: MetricSeries | None, name: str, cell: int, bands: Bands) -> Line:
    if series is None:
        return Line(name, cell, [], [])
    low, high = band_of(series, bands) or (None, None)
    return Line(name, cell, series.x, series.y, low, high)


def _muted(series: MetricSeries | None, name: str, cell: int) -> Line:
    return Line(name, cell, series.x if series else [], series.y if series else [], muted=True)


def _savings(comparison: Comparison, chosen: int | None, palette: Palette, compact: bool) -> Chart:
    others = [cell for cell in comparison.cells if cell.cell != comparison.baseline]
    if not others:
        return empty_chart("Savings need a second budget beside the baseline.")
    shown = chosen if chosen in [cell.cell for cell in others] else savings_cell(comparison)
    cell = next((cell for cell in others if cell.cell == shown), others[0])
    return savings_chart(cell, comparison.cells[comparison.baseline].label, palette, compact)
