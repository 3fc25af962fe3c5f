"""The launch page, and what keeps its form and its file in step."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import Field

from server.api.deps import Body
from server.page_route import PageRoute
from server.reading import StoreDep
from web.draft import draft_of_document, draft_of_yaml
from web.launch_pages import launch_page
from web.presets import PRESETS

router = APIRouter(include_in_schema=False, route_class=PageRoute, default_response_class=HTMLResponse)


class Written(Body):
    """What was written last: the file, or what stands in the form."""

    yaml: str | None = None
    document: dict[str, Any] = Field(default_factory=dict)


@router.get("/experiments/new")
def launch(
    store: StoreDep,
    clone: Annotated[str | None, Query(max_length=40)] = None,
    preset: Annotated[str, Query(max_length=40)] = "demo",
) -> str:
    cloned = store.get_experiment(clone) if clone else None
    key = preset if preset in PRESETS else "demo"
    spec = cloned.spec if cloned else PRESETS[key].spec()
    return launch_page(spec, cloned, key, store.settings.token is not None)


@router.post("/experiments/draft")
def draft(written: Written) -> JSONResponse:
    """The other half of what was written, what is wrong with it, and the runs it would make. Stores nothing."""
    made = draft_of_document(written.document) if written.yaml is None else draft_of_yaml(written.yaml)
    return JSONResponse(asdict(made), headers={"Cache-Control": "no-store"})
