"""Checkpoints of a run: what is there, and each as an archive."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from nat_core.records import CheckpointRecord
from server import checkpoints
from server.api.conditional import ConditionalRoute
from server.api.deps import StoreDep
from server.folders import run_folder

router = APIRouter(prefix="/runs/{run_id}/checkpoints", tags=["runs"], route_class=ConditionalRoute)


@router.get("")
def list_checkpoints(run_id: str, store: StoreDep) -> list[CheckpointRecord]:
    """Whole checkpoints in the run's folder on this server, newest first."""
    store.get_run(run_id)
    return checkpoints.list_checkpoints(run_folder(store.settings.runs, run_id))


@router.get(
    "/{name}",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}},
)
def download_checkpoint(run_id: str, name: str, store: StoreDep) -> StreamingResponse:
    """One checkpoint as a tar archive."""
    store.get_run(run_id)
    folder = checkpoints.checkpoint_folder(run_folder(store.settings.runs, run_id), name)
    archive = checkpoints.Archive(folder)
    headers = {
        "Content-Disposition": f'attachment; filename="{run_id}-{name}.tar"',
        "Content-Length": str(len(archive)),
    }
    return StreamingResponse(archive, media_type="application/x-tar", headers=headers)
