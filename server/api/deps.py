"""What the endpoints share: the application's parts, and common parameters."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import Field

from nat_core.spec import Closed
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
Priority = Annotated[int, Field(ge=-1000, le=1000, description="Runs with a higher one start first.")]
MAX_INTEGER = 2**53
Instance = Annotated[
    str, Field(max_length=64, description="The worker's own process, by a word that it chose at its start.")
]


class Body(Closed):
    """A request body, or an answer that is no record."""
