"""Housekeeping: give disk space back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from nat_core.records import SweepReport
from server import gc
from server.api.deps import Body, StoreDep

router = APIRouter(prefix="/gc", tags=["housekeeping"])


class Sweep(Body):
    """What to remove. Types are taken at their word: a `dry_run` of "no" or 0 is a mistake, and not a wet one."""

    model_config = ConfigDict(strict=True)

    archived_days: Annotated[
        float | None, Field(ge=0, le=36500, description="Remove archived experiments that ended so many days ago, too.")
    ] = None
    checkpoints_days: Annotated[
        float | None,
        Field(ge=0, le=36500, description="Remove all checkpoints of runs that ended so many days ago, too."),
    ] = None
    dry_run: bool = Field(False, description="Only say what would go.")


@router.post("")
def sweep(options: Sweep, store: StoreDep) -> SweepReport:
    """Remove what is left of deleted runs, and give the database's free pages back to the disk."""
    return SweepReport(**vars(gc.sweep(store, options.archived_days, options.checkpoints_days, options.dry_run)))
