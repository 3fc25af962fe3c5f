"""The launch page, what keeps its form and its file in step, and what the draft is expected to cost."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import Field

from nat_core.errors import SpecError
from nat_core.spec import parse_experiment_spec
from server.api.deps import Body
from server.api.plan import planned
from server.page_route import PageRoute
from server.reading import StoreDep
from server.roots import check_roots
from web.draft import draft_of_document, draft_of_yaml
from web.launch_pages import launch_page, plan_fragment
from web.planning import assumptions, plan_experiment
from web.presets import PRESETS
from web.room import present

router = APIRouter(include_in_schema=False, route_class=PageRoute, default_response_class=HTMLResponse)


class Written(Body):
    """What was written last: the file, or what stands in the form."""

    yaml: str | None = None
    document: dict[str, Any] = Field(default_factory=dict)


class Costed(Body):
    """A draft whose cost is asked for; lengths that are not given are assumed."""

    document: dict[str, Any]
    worker: str = Field("", max_length=200)
    prompt_tokens: int | None = Field(None, ge=1, le=131_072)
    completion_tokens: int | None = Field(None, ge=1, le=131_072)


@router.get("/experiments/new")
def launch(
    store: StoreDep,
    clone: Annotated[str | None, Query(max_length=40)] = None,
    preset: Annotated[str, Query(max_length=40)] = "demo",
) -> str:
    cloned = store.get_experiment(clone) if clone else None
    key = preset if preset in PRESETS else "demo"
    spec = cloned.spec if cloned else PRESETS[key].spec()
    workers = present(store.list_workers(), datetime.now(UTC))
    return launch_page(spec, cloned, key, store.settings.token is not None, workers)


@router.post("/experiments/draft")
def draft(written: Written) -> JSONResponse:
    """The other half of what was written, what is wrong with it, and the runs it would make. Stores nothing."""
    made = draft_of_document(written.document) if written.yaml is None else draft_of_yaml(written.yaml)
    return JSONResponse(asdict(made), headers={"Cache-Control": "no-store"})


@router.post("/experiments/draft/plan")
def draft_plan(asked: Costed, store: StoreDep) -> HTMLResponse:
    """What a draft without faults is expected to cost, as a part of the launch page. Stores nothing."""
    spec = parse_experiment_spec(asked.document)
    lengths = asked.prompt_tokens, asked.completion_tokens
    try:
        check_roots(spec, store.settings.allowed_roots)
        found = planned(spec, store, asked.worker, *lengths)
    except SpecError as error:  # a folder that may not be read: the launch will say so beside its field
        found = plan_experiment(spec, error.message, assumptions(spec.base, *lengths))
    return HTMLResponse(plan_fragment(found, spec), headers={"Cache-Control": "no-store"})
