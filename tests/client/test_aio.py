"""The async client is the same client: the same methods, requests, retries and answers."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from client import calls, reported
from client.aio import AsyncNatLab
from client.api import ApiError, NatLab
from client.live import NewMetrics, Resync, RunChanged
from nat_core.records import RunState
from tests.client.builders import a_run, an_experiment
from tests.client.http import Asked, Hangup, answering, problem
from tests.client.test_live import STREAM, sent


def public(thing: object) -> set[str]:
    return {name for name, value in vars(thing).items() if not name.startswith("_") and inspect.isfunction(value)}


def test_both_clients_have_every_call_with_its_own_signature_and_words() -> None:
    described = {
        name: getattr(module, name)
        for module in (calls, reported)
        for name in public(module)
        if getattr(module, name).__module__ == module.__name__
    }
    assert public(NatLab) == public(AsyncNatLab) == described.keys() | {"live", "close"}
    for name, call in described.items():
        for client in (NatLab, AsyncNatLab):
            method = getattr(client, name)
            assert method.__doc__ == call.__doc__
            assert method.__wrapped__ is call


def test_every_call_says_what_it_does() -> None:
    assert [name for name in public(NatLab) - {"close"} if not getattr(NatLab, name).__doc__] == []


def test_launch_wait_and_refusals_await_the_same_answers() -> None:
    ended = an_experiment(a_run(0, state=RunState.SUCCEEDED))
    lost = [True]

    def launch(asked: Asked) -> tuple[int, object]:
        if lost.pop() if lost else False:
            raise Hangup
        return 201, an_experiment()

    polls = iter([an_experiment()])
    routes = {
        "POST /api/v1/experiments": launch,
        "GET /api/v1/experiments/exp-0000000000": lambda asked: (200, next(polls, ended)),
        "POST /api/v1/runs/run-1/stop": (409, problem(409, "illegal_transition")),
    }

    async def scene(url: str) -> None:
        async with AsyncNatLab(url) as lab:
            experiment = await lab.launch({"name": "x", "budgets": [{"selector": "full"}]})
            assert await lab.wait(experiment, every_s=0.01) == ended
            with pytest.raises(ApiError) as caught:
                await lab.stop("run-1")
            assert caught.value.code == "illegal_transition"
            assert await lab.is_ready() is False

    with answering(routes) as table:  # type: ignore[arg-type]
        asyncio.run(scene(table.url))
    assert table.asked[0].headers["Idempotency-Key"] == table.asked[1].headers["Idempotency-Key"]


def test_many_waits_go_side_by_side() -> None:
    ended = an_experiment(a_run(0, state=RunState.SUCCEEDED))

    async def scene(url: str) -> int:
        async with AsyncNatLab(url) as lab:
            return len(await asyncio.gather(*(lab.wait("exp-1") for _ in range(20))))

    with answering({"GET /api/v1/experiments/exp-1": (200, ended)}) as table:
        assert asyncio.run(scene(table.url)) == 20


def test_live_events_and_stored_ones_can_be_iterated() -> None:
    log = {"type": "log", "seq": 1, "time": 1.0, "step": 1, "message": "hello"}
    routes = {"GET /api/v1/stream": (200, sent(*STREAM)), "GET /api/v1/runs/run-1/events": (200, [log])}

    async def scene(url: str) -> None:
        async with AsyncNatLab(url) as lab:
            live = lab.live()
            assert isinstance(await anext(live), Resync)
            assert isinstance(await anext(live), RunChanged)
            assert isinstance(await anext(live), NewMetrics)
            await live.aclose()  # type: ignore[attr-defined]
            assert [event.seq async for event in lab.events("run-1")] == [1]

    with answering(routes) as table:
        asyncio.run(scene(table.url))
