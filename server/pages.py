"""The pages: what a browser gets. Reads the store, lets `web` draw, and knows no HTML itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from server import launch_pages, queue_pages, run_pages
from server.errors import NotFoundError
from server.listing import list_page
from server.page_route import PageRoute, here
from server.reading import RunIds, StoreDep, kept_comparison, picked_groups, runs_of
from web.pages import compare_page, experiment_page, experiments_page

_PAGE_SIZE = 20
_MAX_WORDS = 200


router = APIRouter(include_in_schema=False, route_class=PageRoute, default_response_class=HTMLResponse)
router.include_router(launch_pages.router)  # first: `new` is no experiment's id
router.include_router(run_pages.router)
router.include_router(queue_pages.router)


@router.get("/")
def home() -> RedirectResponse:
    return RedirectResponse("/experiments")


@router.get("/experiments")
def experiments(
    request: Request,
    store: StoreDep,
    archived: bool = False,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
    q: str = "",
) -> str:
    words = q[:_MAX_WORDS].strip()
    page = list_page(store, archived, _PAGE_SIZE, cursor, words)
    url = str(request.base_url).rstrip("/")
    return experiments_page(page, archived, here(request), url, store.settings.token is not None, words, cursor is None)


@router.get("/experiments/{experiment_id}")
def experiment(request: Request, store: StoreDep, experiment_id: str) -> str:
    record = store.get_experiment(experiment_id)
    return experiment_page(record, kept_comparison(store, record), dict(request.query_params))


@router.get("/compare")
def compare(request: Request, store: StoreDep, runs: RunIds = "", experiments: RunIds = "") -> str:
    groups, found = picked_groups(store, runs or runs_of(store, experiments))
    if not groups:
        raise NotFoundError(
            "there is nothing to compare; select two rows or more, of the experiments or of one's table, then press c"
        )
    only = next(iter(found.values())) if len(found) == 1 else None
    return compare_page(groups, only, here(request), dict(request.query_params))
