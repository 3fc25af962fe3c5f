"""What the endpoints share: the application's parts, and common parameters."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from server.broker import Broker
from server.hub import Hub
from server.life import RunLife
from server.store import Store


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _life(request: Request) -> RunLife:
    life: RunLife = request.app.state.life
    return life


def _broker(request: Request) -> Broker:
    broker: Broker = request.app.state.broker
    return broker


def _hub(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


StoreDep = Annotated[Store, Depends(_store)]
LifeDep = Annotated[RunLife, Depends(_life)]
BrokerDep = Annotated[Broker, Depends(_broker)]
HubDep = Annotated[Hub, Depends(_hub)]

Limit = Annotated[int, Query(ge=1, le=100, description="Most items on a page.")]
Cursor = Annotated[str | None, Query(max_length=40, description="`next_cursor` of the page before.")]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=40)]], Field(max_length=20)]
Notes = Annotated[str, Field(max_length=20_000)]


def _no_truth_value(value: Any) -> Any:
    """pydantic would take true for 1, which no schema of whole numbers allows."""
    if isinstance(value, bool):
        raise ValueError(f"{value} is no whole number")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth_value)]
Priority = Annotated[
    int, Field(ge=-1000, le=1000, description="Runs with a higher one start first."), BeforeValidator(_no_truth_value)
]
MAX_INTEGER = 2**53
Instance = Annotated[
    str, Field(max_length=64, description="The worker's own process, by a word that it chose at its start.")
]


class Body(BaseModel):
    """A request body: closed to unknown keys, like every spec."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
