from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import redis
from fastapi import FastAPI

from nat_core.spec import ExperimentSpec
from server.errors import BusyError
from server.hub import Hub, Message
from server.ingest import STREAM
from tests.server.conftest import Api
from tests.server.support import entry, experiment, metrics, served, wait_until


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    with served(app) as url:
        yield url


@contextmanager
def listening(url: str, **params: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """An open stream; iterating gives (event, data) as they come."""
    with (
        httpx.Client(timeout=10) as http,
        http.stream("GET", f"{url}/api/v1/stream", params=params) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield parsed(answer.iter_lines())


def one_budget() -> ExperimentSpec:
    return ExperimentSpec.model_validate(experiment(budgets=[{"selector": "full"}]))


def parsed(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    event = ""
    for line in lines:
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield event, json.loads(line.removeprefix("data: "))


def next_of(stream: Iterator[tuple[str, Any]], event: str) -> Any:
    return next(data for name, data in stream if name == event)


def test_stream_tells_states_and_metrics_as_they_happen(url: str, redis_url: str) -> None:
    with httpx.Client(base_url=url) as http:
        api = Api(http)
        run_id = api.one_run()
        with listening(url) as stream:
            api.claim(run_id)
            assert next_of(stream, "run")["state"] == "running"
            with redis.Redis.from_url(redis_url) as connection:
                connection.xadd(STREAM, entry(run_id, 1, [metrics(1, 3, reward=0.5)]))
            run = next_of(stream, "run")
            assert (run["step"], run["latest"]) == (3, {"reward": 0.5})
            told = next_of(stream, "metrics")
            assert told == {"run_id": run_id, "experiment_id": run["experiment_id"], "step": 3}
            api.finish(run_id)
            assert next_of(stream, "run")["state"] == "succeeded"


def test_stream_of_one_experiment_or_run_leaves_out_the_others(url: str) -> None:
    with httpx.Client(base_url=url) as http:
        api = Api(http)
        one, other = api.launch(), api.launch()
        mine, sibling = (run["id"] for run in one["runs"])
        with (
            listening(url, experiment_id=one["id"]) as of_experiment,
            listening(url, run_id=mine) as of_run,
        ):
            for run_id in (other["runs"][0]["id"], sibling, mine):
                api.call("POST", f"/runs/{run_id}/stop")
            assert [next_of(of_experiment, "run")["id"] for _ in range(2)] == [sibling, mine]
            assert next_of(of_run, "run")["id"] == mine


def test_deleting_asks_everyone_to_fetch_anew(url: str) -> None:
    with httpx.Client(base_url=url) as http:
        api = Api(http)
        run_id = api.one_run()
        api.call("POST", f"/runs/{run_id}/stop")
        with listening(url) as stream:
            api.call("DELETE", f"/runs/{run_id}")
            assert next(stream) == ("resync", {})


def test_slow_listener_is_told_once_to_fetch_anew() -> None:
    async def scene() -> list[str]:
        hub = Hub()
        listener = hub.open()
        for number in range(1000):
            hub.publish(Message("run", str(number), "exp-1", "run-1"))
        await asyncio.sleep(0)
        hub.close()
        await asyncio.sleep(0)
        return [text async for text in hub.read(listener, ping_s=5)]

    texts = asyncio.run(scene())
    assert texts[0] == "event: resync\ndata: {}\n\n"
    assert texts[-1].endswith("\nevent: run\ndata: 999\n\n") and len(texts) <= 256
    assert sum("resync" in text for text in texts) == 1


def test_silence_is_filled_with_pings_and_closing_ends_the_stream() -> None:
    async def scene() -> list[str]:
        hub = Hub()
        stream = hub.read(hub.open(), ping_s=0.01)
        texts = [await anext(stream), await anext(stream)]
        hub.close()
        return texts + [text async for text in stream if "ping" not in text]

    assert asyncio.run(scene()) == ["event: ping\ndata: {}\n\n"] * 2


def test_what_is_told_last_is_what_holds(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    store = app.state.store
    (run_id,) = (run.id for run in store.create_experiment(one_budget(), announce=lambda _: None).runs)
    told: list[str] = []
    later = threading.Thread(target=lambda: store.edit_run(run_id, notes="later"))

    def publish(message: Message) -> None:
        if not later.ident:  # the first change has been read and is about to be told when the second one is made
            later.start()
            wait_until(lambda: store.get_run(run_id).notes == "later")
            later.join(0.3)  # it would overtake here, if it could
        told.append(json.loads(message.data)["notes"])

    monkeypatch.setattr(store._hub, "publish", publish)
    store.edit_run(run_id, notes="first")
    later.join()
    assert told == ["first", "later"]


def test_a_signal_that_ends_the_server_while_a_stream_is_opened_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()

    def be_told_to_go(_last_id: str) -> list[Message]:  # in the same thread and with the hub's lock, as a signal may
        hub.close()
        return []

    monkeypatch.setattr(hub, "_since", be_told_to_go)

    async def scene() -> list[str]:
        return [text async for text in hub.read(hub.open(last_id="x-1"), ping_s=5)]

    told: list[list[str]] = []
    thread = threading.Thread(target=lambda: told.append(asyncio.run(scene())), daemon=True)
    thread.start()
    thread.join(10)
    assert told == [[]]


def test_reader_that_leaves_is_forgotten() -> None:
    async def scene() -> int:
        hub = Hub()
        stream = hub.read(hub.open(), ping_s=0.01)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        return len(hub._listeners)

    assert asyncio.run(scene()) == 0


def test_streams_beyond_the_cap_are_refused_and_their_places_come_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.hub._MOST_LISTENERS", 2)
    hub = Hub()

    async def fill() -> None:
        first, _ = hub.open(), hub.open()
        with pytest.raises(BusyError, match="2 live streams are open"):
            hub.open()
        reading = hub.read(first, ping_s=0.01)
        await anext(reading)
        await reading.aclose()  # type: ignore[attr-defined]
        hub.open()

    asyncio.run(fill())
    assert hub.num_listeners == 2


def test_who_comes_back_is_told_what_was_missed_and_only_that() -> None:
    async def scene() -> list[str]:
        hub = Hub()
        first = hub.open(run_id="run-1")
        for number, run in enumerate(["run-1", "run-2", "run-1", "run-1"]):
            hub.publish(Message("run", str(number), "exp-1", run))
        stream = hub.read(first, ping_s=5)
        last_id = (await anext(stream)).partition("\n")[0].removeprefix("id: ")
        again = hub.open(run_id="run-1", last_id=last_id)
        hub.close()
        return [text async for text in hub.read(again, ping_s=5)]

    told = asyncio.run(scene())
    assert [text.partition("\ndata: ")[2] for text in told] == ["2\n\n", "3\n\n"]


@pytest.mark.parametrize("last_id", ["", "nonsense", "0badcafe-1", "{name}-999", "{name}--1", "{name}-1"])
def test_who_was_away_too_long_or_knows_another_server_fetches_anew(last_id: str) -> None:
    async def scene() -> list[str]:
        hub = Hub()
        for number in range(300):  # more than are remembered
            hub.publish(Message("run", str(number), "exp-1", "run-1"))
        listener = hub.open(last_id=last_id.format(name=hub._name))
        hub.close()
        return [text async for text in hub.read(listener, ping_s=5)]

    assert asyncio.run(scene()) == ["event: resync\ndata: {}\n\n"]


def test_the_stream_takes_the_last_event_s_id_as_browsers_send_it(url: str) -> None:
    with httpx.Client(base_url=url, timeout=10) as http:
        api = Api(http)
        run_id = api.one_run()
        with http.stream("GET", "/api/v1/stream") as answer:
            api.call("PATCH", f"/runs/{run_id}", json={"notes": "first"})
            last = next(line for line in answer.iter_lines() if line.startswith("id: ")).removeprefix("id: ")
        api.call("PATCH", f"/runs/{run_id}", json={"notes": "missed"})
        with http.stream("GET", "/api/v1/stream", headers={"Last-Event-ID": last}) as answer:
            assert next_of(parsed(answer.iter_lines()), "run")["notes"] == "missed"
