"""Experiments to start from."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from nat_core.spec import ExperimentSpec
from server.api.conditional import ConditionalRoute
from web.presets import PRESETS

router = APIRouter(prefix="/presets", tags=["presets"], route_class=ConditionalRoute)


class Preset(BaseModel):
    key: str
    title: str
    description: str
    spec: ExperimentSpec


@router.get("")
def list_presets() -> list[Preset]:
    return [
        Preset(key=key, title=preset.title, description=preset.description, spec=preset.spec())
        for key, preset in PRESETS.items()
    ]
