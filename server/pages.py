"""The pages: what a browser gets. Reads the store, lets `web` draw, and knows no HTML itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from nat_core.events import SampleEvent
from nat_core.records import MetricSeries, RunDetail, RunRecord
from nat_core.spec import demo_experiment
from server.errors import NotFoundError
from server.reading import RunIds, StoreDep, kept_comparison, picked_groups
from server.store import Store
from web import views
from web.pages import (
    compare_page,
    experiment_page,
    experiments_page,
    launch_page,
    not_found_page,
    run_page,
    workers_page,
)
from web.tokens import choose_sample

_PAGE_SIZE = 20
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


Tab = Literal["tokens", "logs", "config"]


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
    answers = {experiment.id: kept_comparison(store, experiment).headline for experiment in page.items}
    url = str(request.base_url).rstrip("/")
    return experiments_page(page, answers, archived, _here(request), url, store.settings.token is not None)


@router.get("/experiments/new")
def launch(store: StoreDep, clone: Annotated[str | None, Query(max_length=40)] = None) -> str:
    cloned = store.get_experiment(clone) if clone else None
    return launch_page(cloned.spec if cloned else demo_experiment(), cloned, store.settings.token is not None)


@router.get("/experiments/{experiment_id}")
def experiment(request: Request, store: StoreDep, experiment_id: str) -> str:
    record = store.get_experiment(experiment_id)
    return experiment_page(record, kept_comparison(store, record), dict(request.query_params))


@router.get("/compare")
def compare(request: Request, store: StoreDep, runs: RunIds = "") -> str:
    groups, experiments = picked_groups(store, runs)
    if not groups:
        raise NotFoundError(
            "there is nothing to compare; select two rows or more of an experiment's table, then press c"
        )
    only = next(iter(experiments.values())) if len(experiments) == 1 else None
    return compare_page(groups, only, _here(request), dict(request.query_params))


@router.get("/runs/{run_id}")
def run(request: Request, store: StoreDep, run_id: str) -> str:
    return _run_page(request, store, run_id, "overview")


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


def _here(request: Request) -> str:
    """This page's own address without its host: what htmx fetches again."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
