from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.server.support import metrics
from worker.folder import BlackBox
from worker.relay import STREAM, Backfill, EventRelay
from worker.tail import EventTail


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as connection:
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def append(path: Path, *seqs: int) -> None:
    with path.open("a") as file:
        file.writelines(metrics(seq, seq, reward=0.1).model_dump_json() + "\n" for seq in seqs)


def sent(connection: redis.Redis) -> list[int]:
    entries: Any = connection.xrange(STREAM)
    assert all((fields["run"], fields["attempt"]) == ("run-a", "1") for _, fields in entries)
    return [event["seq"] for _, fields in entries for event in json.loads(fields["events"])]


def test_relay_sends_each_event_once_and_knows_the_step(path: Path, connection: redis.Redis) -> None:
    relay = EventRelay(EventTail(path), connection, "run-a", 1)
    relay.pump()
    append(path, 1, 2)
    relay.pump()
    relay.pump()
    append(path, 3)
    relay.pump()
    assert sent(connection) == [1, 2, 3] and relay.step == 3
    assert not relay.all_stored
    relay.confirm(3)
    assert relay.all_stored


def test_relay_keeps_events_while_redis_is_away(path: Path, redis_url: str, connection: redis.Redis) -> None:
    relay = EventRelay(EventTail(path), redis.Redis(port=1, retry=Retry(NoBackoff(), 0)), "run-a", 1)
    append(path, 1, 2)
    relay.pump()
    assert relay.step == 2 and not relay.all_stored  # progress is known all the same
    relay._redis, relay._retry_at = connection, 0.0
    append(path, 3)
    relay.pump()
    assert sent(connection) == [1, 2, 3]


def test_relay_sends_again_once_the_server_gets_nothing_new_for_too_long(path: Path, connection: redis.Redis) -> None:
    relay = EventRelay(EventTail(path), connection, "run-a", 1, patience_s=0.2)
    append(path, *range(1, 7))

    def beat(stored: int, after_s: float) -> list[int]:
        time.sleep(after_s)
        relay.confirm(stored)
        relay.pump()
        return sent(connection)

    relay.pump()
    assert beat(0, 0.1) == [1, 2, 3, 4, 5, 6]  # sent just now: the server needs time
    assert beat(2, 0.15) == [1, 2, 3, 4, 5, 6]  # on its way
    assert beat(2, 0.25) == [1, 2, 3, 4, 5, 6, 3, 4, 5, 6]  # nothing more came: lost
    assert len(beat(2, 0.1)) == 10  # and not at every heartbeat
    assert not relay.all_stored
    relay.confirm(6)
    assert relay.all_stored
    assert len(beat(6, 0.25)) == 10


def test_relay_that_went_back_knows_what_is_still_missing(path: Path, connection: redis.Redis) -> None:
    relay = EventRelay(EventTail(path), connection, "run-a", 1, patience_s=0.0)
    append(path, 1, 2, 3)
    relay.pump()
    time.sleep(0.01)
    relay.confirm(1)
    time.sleep(0.01)
    relay.confirm(1)
    assert not relay.all_stored  # though the file was read up to event 1 only, this time


def test_relay_does_not_hold_its_absence_against_the_server(path: Path, connection: redis.Redis) -> None:
    relay = EventRelay(EventTail(path), connection, "run-a", 1, patience_s=0.1)
    append(path, 1, 2)
    relay.pump()
    time.sleep(0.15)
    relay.give_time()
    relay.confirm(0)
    relay.pump()
    assert sent(connection) == [1, 2]


def test_backfill_says_of_each_attempt_which_were_in_the_folder_before(tmp_path: Path, connection: redis.Redis) -> None:
    boxes = {}
    for attempt in (1, 2, 4):
        boxes[attempt] = BlackBox(tmp_path / f"events.{attempt}.jsonl", tmp_path / f"usage.{attempt}.jsonl")
        append(boxes[attempt].events, 1)
    backfill = Backfill(boxes, connection, "run-a")
    backfill.confirm({})
    backfill.pump()
    entries: Any = connection.xrange(STREAM)
    assert [(fields["attempt"], fields["folder"]) for _, fields in entries] == [("1", ""), ("2", "1"), ("4", "1,2")]
