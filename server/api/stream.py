"""The live wire: server-sent events for one experiment, one run, or everything."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from nat_core.records import Problem
from server.api.deps import HubDep

router = APIRouter(prefix="/stream", tags=["stream"])
PING_S = 15.0
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}},
    503: {"model": Problem, "description": "Too many live streams are open; poll instead."},
}
Id = Annotated[str | None, Query(max_length=40)]


@router.get("", response_class=StreamingResponse, responses=_ANSWERS)
async def stream(
    hub: HubDep,
    experiment_id: Id = None,
    run_id: Id = None,
    last_event_id: Annotated[
        str | None, Header(max_length=40, description="The last event that you have: those you missed come first.")
    ] = None,
) -> StreamingResponse:
    """Events `run` (a RunRecord), `metrics` ({run_id, experiment_id, step}) and `resync` (fetch anew)."""
    listener = hub.open(experiment_id, run_id, last_event_id)
    return StreamingResponse(
        hub.read(listener, PING_S),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
