"""Experiments to start from."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from nat_core.spec import ExperimentSpec, demo_experiment

router = APIRouter(prefix="/presets", tags=["presets"])


class Preset(BaseModel):
    key: str
    title: str
    description: str
    spec: ExperimentSpec


@router.get("")
def list_presets() -> list[Preset]:
    return [
        Preset(
            key="demo",
            title="Demo: chained arithmetic",
            description="Four budgets on the built-in 0.8M-parameter model; minutes on two CPU cores.",
            spec=demo_experiment(),
        )
    ]
