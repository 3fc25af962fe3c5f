"""From the Redis stream into SQLite: read a batch, store it, commit, then acknowledge.

A crash between storing and acknowledging replays the batch, and replay changes nothing: events are
keyed by run, attempt and sequence number. What cannot be read is logged and acknowledged too, so
that one bad entry does not hold up the rest.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
from pydantic import TypeAdapter, ValidationError
from redis.exceptions import ResponseError

from nat_core.events import AnyEvent
from nat_core.logs import about
from server import event_log
from server.broker import Broker
from server.store import Store
from server.tables import RunRow

log = logging.getLogger(__name__)

STREAM = "natlab:events"
GROUP = "natlab-server"
_CONSUMER = "server"
_EVENTS: TypeAdapter[list[AnyEvent]] = TypeAdapter(list[AnyEvent])
_ENTRIES = 500  # read at once
_EVENTS_AT_ONCE = 5000  # of one transaction: others wait for the write lock meanwhile


@dataclass(frozen=True)
class Batch:
    """One stream entry: consecutive events of one attempt.

    `folder` lists the earlier attempts that wrote in the same run folder.
    """

    run_id: str
    attempt: int
    events: list[AnyEvent]
    folder: tuple[int, ...] = ()


def parse_entry(fields: Mapping[str, str]) -> Batch:
    """Decode a stream entry. Raises `ValueError` (pydantic's included) or `KeyError` when it is malformed."""
    folder = tuple(int(number) for number in fields.get("folder", "").split(",") if number)
    return Batch(fields["run"], int(fields["attempt"]), _EVENTS.validate_json(fields["events"]), folder)


def store_batches(store: Store, batches: Sequence[Batch]) -> None:
    """Write batches in one transaction; those of runs that are deleted, or of the future, are dropped."""
    by_run: dict[str, list[Batch]] = defaultdict(list)
    for batch in batches:
        by_run[batch.run_id].append(batch)
    news: list[AnyEvent] = []
    with store.change() as (session, changes):
        for run_id, mine in by_run.items():
            run = session.get(RunRow, run_id)
            if run is None:
                log.warning("dropped events of %r, which is no run here", run_id[:80])
                continue
            for batch in joined(mine):
                if not 1 <= batch.attempt <= run.attempt:
                    log.warning("dropped events: attempt was never claimed", extra=about(run_id, batch.attempt))
                elif fresh := event_log.store_events(session, run, batch.attempt, batch.events, batch.folder):
                    news += fresh
                    changes.run_ids.add(run_id)
                    if any(event_log.values_of(event) for event in batch.events):
                        changes.with_metrics.add(run_id)
    store.tally.add(news)


def joined(batches: Sequence[Batch]) -> list[Batch]:
    """The same with neighbours of one attempt as one: what a batch costs by itself is paid once."""
    return [
        Batch(run_id, attempt, [event for batch in group for event in batch.events], folder)
        for (run_id, attempt, folder), group in itertools.groupby(
            batches, lambda batch: (batch.run_id, batch.attempt, batch.folder)
        )
    ]


class Ingestor:
    """The one thread that moves events from Redis into the database."""

    def __init__(self, broker: Broker, store: Store) -> None:
        self._redis = broker.redis
        self._store = store
        self._stop = threading.Event()
        self._redis_away = False
        self._thread = threading.Thread(target=self._run, name="ingestor", daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        backlog = True  # first what an earlier server read and never acknowledged
        while not self._stop.is_set():
            try:
                backlog = self._pass(backlog)
            except (redis.RedisError, OSError) as error:
                backlog = True
                self._on_redis_error(error)
            except Exception:
                backlog = True
                log.exception("storing events failed; trying again in a second")
                self._stop.wait(1.0)

    def _pass(self, backlog: bool) -> bool:
        """Handle one read. Returns whether unacknowledged entries may be left."""
        entries = self._read("0" if backlog else ">")
        if self._redis_away:
            log.info("Redis gives events again")
            self._redis_away = False
        if not entries:
            return False
        for ids, batches in portions(entries, _EVENTS_AT_ONCE):
            store_batches(self._store, batches)
            with self._redis.pipeline() as pipe:
                pipe.xack(STREAM, GROUP, *ids)
                pipe.xdel(STREAM, *ids)
                pipe.execute()
        return backlog

    def _read(self, position: str) -> list[tuple[str, dict[str, str]]]:
        answer = cast("Any", self._redis.xreadgroup(GROUP, _CONSUMER, {STREAM: position}, count=_ENTRIES, block=250))
        streams = answer.items() if isinstance(answer, dict) else answer or []
        return [(entry[0], entry[1] or {}) for _, found in streams for entry in _flat(found)]

    def _on_redis_error(self, error: Exception) -> None:
        if isinstance(error, ResponseError) and "NOGROUP" in str(error):
            self._make_group()  # first start, or Redis lost its memory
        else:
            self._wait_for_redis(error)

    def _make_group(self) -> None:
        try:
            self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except (redis.RedisError, OSError) as error:
            if "BUSYGROUP" not in str(error):  # a replica that takes no writes yet, or one whose memory is full
                self._wait_for_redis(error)

    def _wait_for_redis(self, error: Exception) -> None:
        if not self._redis_away:  # said once, not every second
            log.warning("Redis takes or gives no events (%s); they wait with their workers", error)
        self._redis_away = True
        self._stop.wait(1.0)


def _flat(found: Any) -> list[Any]:
    """RESP3 nests the entries of a stream one list deeper than RESP2."""
    return found[0] if found and isinstance(found[0], list) else found


def portions(entries: Sequence[tuple[str, Mapping[str, str]]], most: int) -> Iterator[tuple[list[str], list[Batch]]]:
    """Entries decoded, in parts of about `most` events; one that cannot be read is logged and goes with the others."""
    ids: list[str] = []
    batches: list[Batch] = []
    held = 0
    for entry_id, fields in entries:
        ids.append(entry_id)
        try:
            batches.append(parse_entry(fields))
            held += len(batches[-1].events)
        except (ValidationError, ValueError, KeyError) as error:
            log.warning("dropped stream entry %s: %s", entry_id, " ".join(str(error).split())[:300])
        if held >= most:
            yield ids, batches
            ids, batches, held = [], [], 0
    if ids:
        yield ids, batches
