"""Metrics of several runs in one request, as charts want them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from nat_core.records import MetricSeries
from server.api.conditional import ConditionalRoute
from server.api.deps import MAX_INTEGER, StoreDep
from server.api.runs import split
from server.errors import BadQueryError

router = APIRouter(prefix="/metrics", tags=["metrics"], route_class=ConditionalRoute)
_MAX_RUNS = 200


@router.get("")
def batch_metrics(
    store: StoreDep,
    run_ids: Annotated[str, Query(max_length=8000, description="Runs, separated by commas.")],
    keys: Annotated[str, Query(max_length=4000, description="Metrics, separated by commas.")],
    x: Annotated[
        Literal["step", "tokens_selected", "tokens_generated", "update_s", "wall_s"],
        Query(description="What the values stand against: the step, the time so far (`wall_s`), or a sum so far."),
    ] = "step",
    since: Annotated[int | None, Query(ge=-1, le=MAX_INTEGER, description="Only steps after this one.")] = None,
    max_points: Annotated[int | None, Query(ge=3, le=100_000, description="Most points in a series.")] = None,
) -> list[MetricSeries]:
    """One series for each run and metric that has values."""
    runs = split(run_ids)
    if len(runs) > _MAX_RUNS:
        raise BadQueryError(f"run_ids holds {len(runs)} runs, but at most {_MAX_RUNS} go in one request; ask in parts")
    return store.metric_series(runs, split(keys), x=x, since=since, max_points=max_points)
