"""The pages of one run. What an address asks for and is not there counts as not asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from nat_core.records import ExperimentRecord, RunDetail
from server import history
from server.checkpoints import list_checkpoints
from server.folders import run_folder
from server.page_route import PageRoute, here
from server.reading import StoreDep
from server.store import Store
from web import views
from web.history import EVENT_TYPES, event_rows, log_view
from web.run_pages import (
    CheckpointsPart,
    ConfigPart,
    EventsPart,
    LogsPart,
    TokensPart,
    config_part,
    event_kind,
    run_page,
)
from web.tokens import OUTCOMES, SampleFilter, choose_sample, sample_row, sample_view

_MAX_FOUND = 50
_MAX_EVENTS = 100
_MAX_WORDS = 200
_PREFIX_SELECTORS = ("rpc", "truncate")

router = APIRouter(include_in_schema=False, route_class=PageRoute, default_response_class=HTMLResponse)

Query = Mapping[str, str]
Tab = Literal["metrics", "tokens", "system", "logs", "config", "checkpoints", "events"]


@router.get("/runs/{run_id}")
def run(request: Request, store: StoreDep, run_id: str) -> str:
    return _page(request, store, run_id, "overview")


@router.get("/runs/{run_id}/{tab}")
def run_tab(request: Request, store: StoreDep, run_id: str, tab: Tab) -> str:
    return _page(request, store, run_id, tab)


def _page(request: Request, store: Store, run_id: str, tab: str) -> str:
    record = store.get_run(run_id)
    experiment = store.get_experiment(record.experiment_id)
    baseline = views.baseline_run(experiment, record)
    accuracy = next(iter(store.metric_series([run_id], ["eval/accuracy"])), None)
    base = store.outcome(baseline.id, record.step) if baseline else None
    tiles = views.run_tiles(accuracy, store.outcome(run_id), base, baseline.label if baseline else "")
    make = _PARTS.get(tab)
    part = make(store, record, experiment, dict(request.query_params)) if make else None
    return run_page(record, experiment, baseline, tiles, tab, here(request), part)


def _tokens(store: Store, run: RunDetail, _experiment: ExperimentRecord, query: Query) -> TokensPart:
    outcome = query.get("outcome", "")
    wanted = SampleFilter(_words(query), outcome if outcome in OUTCOMES else "", _whole(query.get("in")))
    places = history.sample_places(store, run.id)
    found, whole = history.search_samples(store, places, wanted, _MAX_FOUND)
    rows = [
        sample_row(place, sample)
        for place, sample in zip(found, history.read_samples(store, [places[place] for place in found]), strict=True)
    ]
    number = _whole(query.get("sample"))
    index = None if number is None else number - 1
    in_part = {row.place for row in rows if 0 < row.num_kept < row.num_tokens}
    choice = choose_sample(list(places), list(reversed(found)), _whole(query.get("step")), index, in_part)
    shown = None
    if choice is not None:
        (sample,) = history.read_samples(store, [places[choice.place]])
        cut = run.spec.budget.selector in _PREFIX_SELECTORS
        shown = sample_view(sample, choice.place.index, choice.num_in_step, cut)
    return TokensPart.of(choice, shown, rows, wanted, whole)


def _logs(store: Store, run: RunDetail, _experiment: ExperimentRecord, query: Query) -> LogsPart:
    return LogsPart(log_view(store.log_text(run.id), _words(query)), _words(query))


def _config(_store: Store, run: RunDetail, experiment: ExperimentRecord, _query: Query) -> ConfigPart:
    return config_part(run, experiment)


def _checkpoints(store: Store, run: RunDetail, _experiment: ExperimentRecord, _query: Query) -> CheckpointsPart:
    found = list_checkpoints(run_folder(store.settings.runs, run.id))
    return CheckpointsPart(found, len(store.events(run.id, type="checkpoint", limit=1000)))


def _events(store: Store, run: RunDetail, _experiment: ExperimentRecord, query: Query) -> EventsPart:
    kind = event_kind(query.get("type", ""))
    found = history.newest_events(store, run.id, EVENT_TYPES[kind], _MAX_EVENTS + 1, _whole(query.get("before")))
    rows = event_rows(found[:_MAX_EVENTS])
    return EventsPart.of(rows, kind, rows[-1].seq if len(found) > _MAX_EVENTS else None)


_PARTS: dict[str, Callable[[Store, RunDetail, ExperimentRecord, Query], Any]] = {
    "tokens": _tokens,
    "logs": _logs,
    "config": _config,
    "checkpoints": _checkpoints,
    "events": _events,
}


def _words(query: Query) -> str:
    return query.get("q", "")[:_MAX_WORDS].strip()


def _whole(text: str | None) -> int | None:
    """A whole number of an address; None for anything else."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 16 else None
