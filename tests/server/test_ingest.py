from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from fastapi import FastAPI
from sqlalchemy import text

from nat_core.events import LogEvent, StateEvent
from server.ingest import GROUP, STREAM, Batch, Ingestor, store_batches
from tests.server.conftest import Api
from tests.server.support import entry, evaluation, metrics, row_counts, wait_until


def all_rows(app: FastAPI) -> list[Any]:
    with app.state.store.db.read() as session:
        return [tuple(row) for row in session.execute(text("SELECT * FROM event ORDER BY 1, 2, 3"))]


@pytest.fixture
def running(api: Api) -> str:
    run_id = api.one_run()
    api.claim(run_id)
    return run_id


def test_events_become_rows_latest_values_and_progress(api: Api, app: FastAPI, running: str) -> None:
    started = StateEvent(seq=1, time=1.0, step=0, phase="started", hardware={"device": "cpu"})
    events = [started, evaluation(2, 0, [2, 2]), metrics(3, 1, reward=0.5, loss=0.1), metrics(4, 2, reward=0.75)]
    store_batches(app.state.store, [Batch(running, 1, events)])
    run = api.run(running)
    assert run["step"] == 2 and run["hardware"] == {"device": "cpu"}
    assert run["latest"] == {"eval/accuracy": 0.5, "eval/mean_length": 12.0, "reward": 0.75, "loss": 0.1}
    assert [event["seq"] for event in api.call("GET", f"/runs/{running}/events")] == [1, 2, 3, 4]
    only = api.call("GET", f"/runs/{running}/events", params={"type": "metrics", "after_seq": 3})
    assert [event["values"] for event in only] == [{"reward": 0.75}]
    assert api.beat(running)["last_seq"] == 4


def test_replayed_batches_change_nothing(api: Api, app: FastAPI, running: str) -> None:
    batches = [Batch(running, 1, [metrics(1, 1, reward=0.1)]), Batch(running, 1, [metrics(2, 2, reward=0.2)])]
    store_batches(app.state.store, batches)
    rows, run = all_rows(app), api.run(running)
    store_batches(app.state.store, batches)
    store_batches(app.state.store, batches[:1])  # an old one alone must not bring back its value
    assert all_rows(app) == rows
    assert {**api.run(running), "eta_s": 0} == {**run, "eta_s": 0}


def test_a_hole_is_named_and_filled_without_losing_newer_values(api: Api, app: FastAPI, running: str) -> None:
    store = app.state.store
    store_batches(store, [Batch(running, 1, [metrics(1, 1, reward=0.1), metrics(4, 4, reward=0.4)])])
    assert api.beat(running)["last_seq"] == 1
    store_batches(store, [Batch(running, 1, [metrics(2, 2, reward=0.2, kl=0.02), metrics(3, 3, reward=0.3)])])
    assert api.beat(running)["last_seq"] == 4
    assert api.run(running)["latest"] == {"reward": 0.4, "kl": 0.02} and api.run(running)["step"] == 4


def test_a_missing_first_event_leaves_nothing_confirmed(api: Api, app: FastAPI, running: str) -> None:
    store_batches(app.state.store, [Batch(running, 1, [metrics(2, 2, reward=0.2)])])
    assert api.beat(running)["last_seq"] == 0


def test_values_that_are_not_finite_are_stored_as_null(api: Api, app: FastAPI, running: str) -> None:
    raw = (
        '[{"seq":1,"time":1.0,"step":1,"type":"metrics","values":{"loss":NaN,"reward":0.5}},'
        '{"seq":2,"time":2.0,"step":2,"type":"metrics","values":{"loss":-Infinity,"grad_norm":1e999}}]'
    )
    from server.ingest import parse_entry

    store_batches(app.state.store, [parse_entry({"run": running, "attempt": "1", "events": raw})])
    assert api.run(running)["latest"] == {"loss": None, "reward": 0.5, "grad_norm": None}
    bodies = [json.loads(row[-1])["values"] for row in all_rows(app)]
    assert bodies == [{"loss": None, "reward": 0.5}, {"loss": None, "grad_norm": None}]
    series = api.call("GET", f"/runs/{running}/metrics", params={"keys": "loss"})
    assert series == [{"run_id": running, "key": "loss", "x": [1.0, 2.0], "y": [None, None]}]


def test_events_of_unknown_runs_and_unclaimed_attempts_are_dropped(app: FastAPI, running: str) -> None:
    store_batches(
        app.state.store,
        [
            Batch("run-0000000000", 1, [metrics(1, 1, reward=1.0)]),
            Batch(running, 2, [metrics(1, 1, reward=1.0)]),
            Batch(running, 0, [metrics(1, 1, reward=1.0)]),
        ],
    )
    assert row_counts(app)["event"] == 0


# --- through a real stream ------------------------------------------------------------------------


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as connection:
        yield connection


@pytest.fixture
def ingestor(app: FastAPI) -> Iterator[Ingestor]:
    ingestor = Ingestor(app.state.broker, app.state.store)
    ingestor.start()
    yield ingestor
    ingestor.stop()
    assert not ingestor.is_alive


def test_ingestor_stores_then_acknowledges_and_clears(
    app: FastAPI, running: str, connection: redis.Redis, ingestor: Ingestor
) -> None:
    for seq in range(1, 4):
        connection.xadd(STREAM, entry(running, 1, [metrics(seq, seq, reward=0.5)]))
    wait_until(lambda: row_counts(app)["event"] == 3)
    wait_until(lambda: connection.xlen(STREAM) == 0)
    assert connection.xpending(STREAM, GROUP)["pending"] == 0


def test_ingestor_takes_up_what_an_earlier_server_left_unacknowledged(
    app: FastAPI, running: str, connection: redis.Redis
) -> None:
    connection.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    connection.xadd(STREAM, entry(running, 1, [metrics(1, 1, reward=0.5)]))
    connection.xreadgroup(GROUP, "server", {STREAM: ">"})  # read, and then the server died
    connection.xadd(STREAM, entry(running, 1, [metrics(2, 2, reward=0.6)]))
    ingestor = Ingestor(app.state.broker, app.state.store)
    ingestor.start()
    try:
        wait_until(lambda: row_counts(app)["event"] == 2)
        wait_until(lambda: connection.xlen(STREAM) == 0)
    finally:
        ingestor.stop()


def test_ingestor_is_not_held_up_by_entries_it_cannot_read(
    app: FastAPI, running: str, connection: redis.Redis, ingestor: Ingestor
) -> None:
    connection.xadd(STREAM, {"nonsense": "1"})
    connection.xadd(STREAM, {"run": running, "attempt": "x", "events": "[]"})
    connection.xadd(STREAM, {"run": running, "attempt": "1", "events": '[{"type":"surprise"}]'})
    connection.xadd(STREAM, {"run": running, "attempt": "1", "events": "["})
    for time in ("NaN", "Infinity", "1e300", "-1"):  # none of which a log could show, or a row hold
        said = f'{{"type":"log","seq":1,"time":{time},"step":0,"message":"when?"}}'
        connection.xadd(STREAM, {"run": running, "attempt": "1", "events": f"[{said}]"})
    connection.xadd(STREAM, entry(running, 1, []))
    connection.xadd(STREAM, entry(running, 1, [LogEvent(seq=1, time=0, step=0, message="fine")]))
    wait_until(lambda: row_counts(app)["event"] == 1)
    wait_until(lambda: connection.xlen(STREAM) == 0)


def test_ingestor_goes_on_after_redis_lost_everything(
    app: FastAPI, running: str, connection: redis.Redis, ingestor: Ingestor
) -> None:
    connection.xadd(STREAM, entry(running, 1, [metrics(1, 1, reward=0.5)]))
    wait_until(lambda: row_counts(app)["event"] == 1)
    connection.flushall()
    connection.xadd(STREAM, entry(running, 1, [metrics(2, 2, reward=0.6)]))
    wait_until(lambda: row_counts(app)["event"] == 2)


def test_ingestor_outlives_a_redis_that_lost_everything_and_takes_no_writes_yet(
    app: FastAPI, running: str, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = app.state.broker.redis.xgroup_create
    refusals = [redis.exceptions.ReadOnlyError("READONLY You can't write against a read only replica.")]

    def refuse_once(*args: Any, **kwargs: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return make(*args, **kwargs)

    monkeypatch.setattr(app.state.broker.redis, "xgroup_create", refuse_once)
    connection.xadd(STREAM, entry(running, 1, [metrics(1, 1, reward=0.5)]))
    ingestor = Ingestor(app.state.broker, app.state.store)
    ingestor.start()
    try:
        wait_until(lambda: row_counts(app)["event"] == 1)
        assert not refusals
    finally:
        ingestor.stop()


def test_only_new_events_are_told_as_news(app: FastAPI, running: str) -> None:
    from server import event_log
    from server.rows import run_row

    events = [metrics(1, 1, reward=0.1), metrics(2, 2, reward=0.2)]
    for expected in (2, 0):
        with app.state.store.change() as (session, _):
            assert len(event_log.store_events(session, run_row(session, running), 1, events)) == expected


def test_news_are_the_events_that_fill_a_hole_and_not_those_around_it(app: FastAPI, running: str) -> None:
    first, second, third, fourth = (metrics(seq, seq, tokens__selected=10.0**seq) for seq in range(1, 5))
    for events in ([first, fourth], [first, second, third, third, fourth]):
        store_batches(app.state.store, [Batch(running, 1, events)])
    tally = app.state.store.tally
    assert (tally.events, tally.steps, tally.tokens["selected"]) == (4, 4, 11110.0)
