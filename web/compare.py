"""Runs of any experiments side by side: grouped by budget, differences of their configurations, curves in one chart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nat_core.records import ExperimentRecord, RunDetail, RunRecord
from web.columns import run_columns
from web.diff import Difference, differences
from web.figure_sets import LoadSeries, band_of, load_bands, load_curves, metric_keys
from web.figures import Axes, Chart, Curve, curves_chart
from web.metrics import metrics_of
from web.palette import Palette
from web.table import Row, Table, make_table
from web.view import TableView

MAX_RUNS = 200
_NOT_COMPARED = ("seed",)  # runs of a group differ in nothing else


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed. `colour` is the cell's own while one experiment is compared."""

    label: str
    colour: int
    biased: bool
    runs: tuple[RunDetail, ...]


def group_runs(runs: Sequence[RunDetail], experiments: Mapping[str, ExperimentRecord]) -> list[Group]:
    """By experiment and budget, in the order given; several experiments are told apart by their names."""
    several = len({run.experiment_id for run in runs}) > 1
    found: dict[tuple[str, int], list[RunDetail]] = {}
    for run in runs:
        found.setdefault((run.experiment_id, run.cell), []).append(run)
    return [
        Group(
            label=f"{experiments[members[0].experiment_id].name} — {members[0].label}" if several else members[0].label,
            colour=number if several else members[0].cell,
            biased=members[0].spec.budget.biased,
            runs=tuple(members),
        )
        for number, members in enumerate(found.values())
    ]


def group_differences(groups: Sequence[Group]) -> list[Difference]:
    """The fields in which the groups' configurations differ."""
    return differences([group.runs[0].spec.model_dump(mode="json") for group in groups], _NOT_COMPARED)


def compared_table(groups: Sequence[Group], view: TableView, query: Mapping[str, str]) -> Table:
    """Every run as a row."""
    rows: list[Row[RunRecord]] = [
        Row(
            id=run.id,
            label=group.label,
            item=run,
            colour=group.colour,
            biased=group.biased,
            url=f"/runs/{run.id}",
            runs=(run.id,),
        )
        for group in groups
        for run in group.runs
    ]
    metrics = metrics_of(run.spec for group in groups for run in group.runs)
    return make_table("Run", run_columns(metrics), rows, view, query)


def compared_figures(
    names: Iterable[str], groups: Sequence[Group], load: LoadSeries, palette: Palette, axes: Axes
) -> dict[str, Chart]:
    """One chart a metric, a curve for each run; a group's finished runs become their mean."""
    keys = metric_keys(names)
    if not keys:
        return {}
    found = {(s.run_id, s.key): s for s in load_curves(load, [group.runs for group in groups], keys)}
    bands = load_bands(load, [group.runs[0].id for group in groups if len(group.runs) == 1], keys)
    charts = {}
    for key, info in keys.items():
        curves = [
            Curve(
                group.label,
                group.colour,
                run.seed,
                group.biased,
                run.state.is_final,
                series.x,
                series.y,
                band_of(series, bands),
            )
            for group in groups
            for run in group.runs
            if (series := found.get((run.id, key))) is not None
        ]
        over = all(run.state.is_final for group in groups for run in group.runs)
        charts[key] = curves_chart(info, curves, palette, axes, over)
    return charts
