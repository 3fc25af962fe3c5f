"""The REST API under `/api/v1`: one router per resource, collected here."""

from fastapi import APIRouter

from nat_core.records import Problem
from server.api import checkpoints, experiments, gc, metrics, plan, presets, report, runs, stream, workers

router = APIRouter(
    prefix="/api/v1",
    responses={
        status: {"model": Problem, "description": description}
        for status, description in (
            (404, "There is no such thing."),
            (409, "The state it is in does not allow that."),
            (422, "A value is wrong; `errors` says which."),
        )
    },
)
for part in (experiments, plan, report, runs, checkpoints, metrics, workers, presets, stream, gc):
    router.include_router(part.router)
