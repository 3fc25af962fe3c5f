"""Figures and the numbers behind them, as the pages ask for them: the reader's axes in, JSON or CSV out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse

from nat_core.records import RunRecord
from server.reading import RunIds, StoreDep, kept_comparison, picked_groups, picked_runs
from server.store import Store
from web import views
from web.compare import compared_figures
from web.figure_sets import LoadSeries, experiment_figures, run_figures
from web.figures import Axes, Chart
from web.figures.axes import MOST_SMOOTHING
from web.numbers import MEDIA_TYPES, Kind, Rows, comparison_rows, file_name, run_rows, series_rows, written
from web.palette import PALETTES

_MAX_POINTS = 600
_OF_COMPARISON = ("tradeoff", "savings")
_RUNS = "runs"

router = APIRouter(include_in_schema=False)

Theme = Literal["light", "dark"]
Across = Literal["step", "tokens_selected", "tokens_generated", "update_s", "wall_s"]
Cost = Literal["share", "tokens", "seconds", "memory"]
Names = Annotated[str, Query(max_length=2000)]
Name = Annotated[str, Query(max_length=100)]


def _axes(
    x: Across = "step", smooth: Annotated[float, Query(ge=0, le=MOST_SMOOTHING)] = 0.0, log: bool = False
) -> Axes:
    return Axes(x, smooth, log)


AxesDep = Annotated[Axes, Depends(_axes)]


def _loader(
    store: StoreDep, axes: AxesDep, looked_at: Annotated[str, Query(alias="range", max_length=60)] = ""
) -> LoadSeries:
    """Reads series for these axes, and more closely where the reader has zoomed in."""
    within = _span(looked_at)
    return lambda run_ids, keys, ends=False: store.metric_series(
        run_ids, keys, x=axes.x, max_points=_MAX_POINTS, ends=ends, within=within
    )


LoadDep = Annotated[LoadSeries, Depends(_loader)]


def _span(text: str) -> tuple[float, float] | None:
    """`12.5,40` of an address; None for anything else."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


@router.get("/experiments/{experiment_id}/figures.json")
def figures_of_experiment(
    store: StoreDep,
    load: LoadDep,
    axes: AxesDep,
    experiment_id: str,
    names: Names = "",
    theme: Theme = "light",
    cost: Cost = "share",
    cell: Annotated[int | None, Query(ge=0)] = None,
    compact: bool = False,
) -> JSONResponse:
    record = store.get_experiment(experiment_id)
    charts = experiment_figures(
        names.split(","),
        record,
        kept_comparison(store, record),
        load,
        PALETTES[theme],
        axes=axes,
        cost=cost,
        cell=cell,
        compact=compact,
    )
    return _figures(charts)


@router.get("/runs/{run_id}/figures.json")
def figures_of_run(
    store: StoreDep, load: LoadDep, axes: AxesDep, run_id: str, names: Names = "", theme: Theme = "light"
) -> JSONResponse:
    record = store.get_run(run_id)
    baseline = views.baseline_run(store.get_experiment(record.experiment_id), record)
    return _figures(run_figures(names.split(","), record, baseline, load, PALETTES[theme], axes))


@router.get("/compare/figures.json")
def figures_of_comparison(
    store: StoreDep, load: LoadDep, axes: AxesDep, runs: RunIds = "", names: Names = "", theme: Theme = "light"
) -> JSONResponse:
    groups, _ = picked_groups(store, runs)
    return _figures(compared_figures(names.split(","), groups, load, PALETTES[theme], axes))


@router.get("/experiments/{experiment_id}/numbers.{kind}")
def numbers_of_experiment(store: StoreDep, axes: AxesDep, experiment_id: str, kind: Kind, name: Name) -> Response:
    record = store.get_experiment(experiment_id)
    if name in _OF_COMPARISON:
        return _file(comparison_rows(kept_comparison(store, record)), kind, experiment_id, "budgets")
    runs = [run for run in record.runs if not run.archived]
    return _file(_rows(store, runs, name, axes), kind, record.id, name)


@router.get("/runs/{run_id}/numbers.{kind}")
def numbers_of_run(store: StoreDep, axes: AxesDep, run_id: str, kind: Kind, name: Name) -> Response:
    return _file(_rows(store, [store.get_run(run_id)], name, axes), kind, run_id, name)


@router.get("/compare/numbers.{kind}")
def numbers_of_comparison(store: StoreDep, axes: AxesDep, kind: Kind, name: Name, runs: RunIds = "") -> Response:
    found, _ = picked_runs(store, runs)
    return _file(_rows(store, found, name, axes), kind, "compared", name)


def _rows(store: Store, runs: Sequence[RunRecord], name: str, axes: Axes) -> Rows:
    """The runs themselves, or what they reported of one metric."""
    if name == _RUNS:
        return run_rows(runs)
    return series_rows(runs, store.metric_series([run.id for run in runs], [name], x=axes.x), axes.x)


def _file(rows: Rows, kind: Kind, *about: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{file_name(about, kind)}"', "Cache-Control": "no-store"}
    return Response(written(rows, kind), media_type=MEDIA_TYPES[kind], headers=headers)


def _figures(charts: dict[str, Chart]) -> JSONResponse:
    figures = {name: chart.to_json() for name, chart in charts.items()}
    return JSONResponse({"figures": figures}, headers={"Cache-Control": "no-store"})
