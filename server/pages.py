"""The pages: what a browser gets. Reads the store, lets `web` draw, and knows no HTML itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.routing import APIRoute

from nat_core.comparison import Comparison
from nat_core.events import SampleEvent
from nat_core.records import ExperimentRecord, MetricSeries, RunDetail, RunRecord
from nat_core.spec import demo_experiment
from server.errors import NotFoundError
from server.store import Store
from web import views
from web.compare import MAX_RUNS, Group, compared_figures, group_runs
from web.figure_sets import LoadSeries, experiment_figures, run_figures
from web.figures import Chart
from web.pages import (
    compare_page,
    experiment_page,
    experiments_page,
    launch_page,
    not_found_page,
    run_page,
    workers_page,
)
from web.palette import PALETTES
from web.tokens import choose_sample
from web.view import listed

_PAGE_SIZE = 20
_MAX_POINTS = 600
_MAX_SAMPLES = 2000


class PageRoute(APIRoute):
    """A page about something that is not there answers with a page, not with a problem document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                return await handle(request)
            except NotFoundError as error:
                return HTMLResponse(not_found_page(error.message), HTTPStatus.NOT_FOUND)

        return page


router = APIRouter(include_in_schema=False, route_class=PageRoute, default_response_class=HTMLResponse)


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


StoreDep = Annotated[Store, Depends(_store)]
Theme = Literal["light", "dark"]
Across = Literal["step", "tokens_selected", "tokens_generated", "update_s"]
Cost = Literal["share", "tokens", "seconds", "memory"]
Tab = Literal["tokens", "logs", "config"]
Names = Annotated[str, Query(max_length=2000)]
RunIds = Annotated[str, Query(max_length=8000)]


@router.get("/")
def home() -> RedirectResponse:
    return RedirectResponse("/experiments")


@router.get("/experiments")
def experiments(
    request: Request,
    store: StoreDep,
    archived: bool = False,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
) -> str:
    page = store.list_experiments(archived=archived, limit=_PAGE_SIZE, cursor=cursor)
    answers = {experiment.id: _comparison(store, experiment).headline for experiment in page.items}
    url = str(request.base_url).rstrip("/")
    return experiments_page(page, answers, archived, _here(request), url, store.settings.token is not None)


@router.get("/experiments/new")
def launch(store: StoreDep, clone: Annotated[str | None, Query(max_length=40)] = None) -> str:
    cloned = store.get_experiment(clone) if clone else None
    return launch_page(cloned.spec if cloned else demo_experiment(), cloned, store.settings.token is not None)


@router.get("/experiments/{experiment_id}")
def experiment(request: Request, store: StoreDep, experiment_id: str) -> str:
    record = store.get_experiment(experiment_id)
    return experiment_page(record, _comparison(store, record), dict(request.query_params))


@router.get("/experiments/{experiment_id}/figures.json")
def figures_of_experiment(
    store: StoreDep,
    experiment_id: str,
    names: Names = "",
    theme: Theme = "light",
    x: Across = "step",
    cost: Cost = "share",
    cell: Annotated[int | None, Query(ge=0)] = None,
    compact: bool = False,
) -> JSONResponse:
    record = store.get_experiment(experiment_id)
    comparison = _comparison(store, record)
    load = _loader(store, x)
    wanted, palette = names.split(","), PALETTES[theme]
    charts = experiment_figures(wanted, record, comparison, load, palette, x=x, cost=cost, cell=cell, compact=compact)
    return _figures(charts)


@router.get("/compare")
def compare(request: Request, store: StoreDep, runs: RunIds = "") -> str:
    groups, experiments = _compared(store, runs)
    if not groups:
        raise NotFoundError(
            "there is nothing to compare; select two rows or more of an experiment's table, then press c"
        )
    only = next(iter(experiments.values())) if len(experiments) == 1 else None
    return compare_page(groups, only, _here(request), dict(request.query_params))


@router.get("/compare/figures.json")
def figures_of_comparison(
    store: StoreDep, runs: RunIds = "", names: Names = "", theme: Theme = "light", x: Across = "step"
) -> JSONResponse:
    groups, _ = _compared(store, runs)
    return _figures(compared_figures(names.split(","), groups, _loader(store, x), PALETTES[theme], x))


def _compared(store: Store, run_ids: str) -> tuple[list[Group], dict[str, ExperimentRecord]]:
    """The runs asked for, those that are not there left out."""
    found = []
    for run_id in listed(run_ids)[:MAX_RUNS]:
        with suppress(NotFoundError):
            found.append(store.get_run(run_id))
    experiments = {run.experiment_id: store.get_experiment(run.experiment_id) for run in found}
    return group_runs(found, experiments), experiments


@router.get("/runs/{run_id}")
def run(request: Request, store: StoreDep, run_id: str) -> str:
    return _run_page(request, store, run_id, "overview")


@router.get("/runs/{run_id}/figures.json")
def figures_of_run(
    store: StoreDep, run_id: str, names: Names = "", theme: Theme = "light", x: Across = "step"
) -> JSONResponse:
    record = store.get_run(run_id)
    baseline = views.baseline_run(store.get_experiment(record.experiment_id), record)
    return _figures(run_figures(names.split(","), record, baseline, _loader(store, x), PALETTES[theme], x))


@router.get("/runs/{run_id}/{tab}")
def run_tab(
    request: Request,
    store: StoreDep,
    run_id: str,
    tab: Tab,
    step: Annotated[int | None, Query(ge=0)] = None,
    sample: Annotated[int, Query(ge=1)] = 1,
) -> str:
    return _run_page(request, store, run_id, tab, step, sample - 1)


@router.get("/workers")
def workers(store: StoreDep) -> str:
    known = store.list_workers()
    return workers_page([(worker, store.get_run(worker.run_id) if worker.run_id else None) for worker in known])


def _run_page(request: Request, store: Store, run_id: str, tab: str, step: int | None = None, sample: int = 0) -> str:
    record = store.get_run(run_id)
    experiment = store.get_experiment(record.experiment_id)
    baseline = views.baseline_run(experiment, record)
    own, base = _tile_series(store, record), _tile_series(store, baseline) if baseline else {}
    tiles = views.run_tiles(record, own, base, baseline.label if baseline else "")
    choice = None
    if tab == "tokens":
        choice = choose_sample(
            _samples(store, record), step, sample, record.spec.budget.selector in ("rpc", "truncate")
        )
    log_text = store.log_text(run_id) if tab == "logs" else ""
    return run_page(record, experiment, baseline, tiles, tab, here=_here(request), choice=choice, log_text=log_text)


def _tile_series(store: Store, run: RunRecord) -> dict[str, MetricSeries]:
    return {series.key: series for series in store.metric_series([run.id], list(views.TILE_KEYS))}


def _samples(store: Store, run: RunDetail) -> list[SampleEvent]:
    found: list[SampleEvent] = []
    after = 0
    while len(found) < _MAX_SAMPLES:
        events = store.events(run.id, type="sample", after_seq=after, limit=200)
        found += [event for event in events if isinstance(event, SampleEvent)]
        if len(events) < 200:
            break
        after = events[-1].seq
    return found


def _loader(store: Store, x: str) -> LoadSeries:
    return lambda run_ids, keys: store.metric_series(run_ids, keys, x=x, max_points=_MAX_POINTS)


def _figures(charts: dict[str, Chart]) -> JSONResponse:
    figures = {name: chart.to_json() for name, chart in charts.items()}
    return JSONResponse({"figures": figures}, headers={"Cache-Control": "no-store"})


def _here(request: Request) -> str:
    """This page's own address without its host: what htmx fetches again."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


# Comparisons of finished experiments do not change, and a listing shows many: the newest are kept.
_KEPT = 256
_answers: dict[str, Comparison] = {}


def _comparison(store: Store, experiment: ExperimentRecord) -> Comparison:
    runs = [(run.id, run.state, run.attempt, run.step, run.archived) for run in experiment.runs]
    key = json.dumps([experiment.id, runs])
    settled = all(run.state.is_final for run in experiment.runs)
    if settled and key in _answers:
        return _answers[key]
    comparison = store.comparison(experiment.id)
    if settled:
        while len(_answers) >= _KEPT:
            _answers.pop(next(iter(_answers)))
        _answers[key] = comparison
    return comparison
