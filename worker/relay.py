"""From the trainer's `events.jsonl` to the Redis stream, without ever making the trainer wait.

While Redis is away events stay in the file. Should Redis lose what it was given, the server's
heartbeat answers with the last event it has, and the file is read again from there: storing an
event twice changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import redis

from nat_core.events import AnyEvent, StateEvent
from nat_core.logs import about
from worker.folder import BlackBox
from worker.tail import EventTail
from worker.usage_log import UsageLog

log = logging.getLogger(__name__)

STREAM = "natlab:events"
_RETRY_S = 3.0


class EventRelay:
    """Carries one attempt's events.

    Args:
        patience_s: how long the server may take to store what was sent.
        folder: the earlier attempts in the same run folder; the server keeps what led to this one.
        told: what to make of events as they are read, before they are sent.
    """

    def __init__(
        self,
        tail: EventTail,
        connection: redis.Redis,
        run_id: str,
        attempt: int,
        patience_s: float = 5.0,
        folder: Sequence[int] = (),
        told: Callable[[Sequence[AnyEvent]], list[AnyEvent]] = list,
    ) -> None:
        self._tail = tail
        self._told = told
        self._redis = connection
        self._run_id = run_id
        self._attempt = attempt
        self._about = about(run_id, attempt)
        self._folder = ",".join(map(str, folder))
        self._unsent: list[AnyEvent] = []
        self._retry_at = 0.0
        self._patience_s = patience_s
        self._moved_at = time.monotonic()
        self._seen = 0
        self._sent = 0
        self._stored = 0
        self.step = 0
        self.ended: StateEvent | None = None
        self.redis_away = False

    @property
    def all_stored(self) -> bool:
        """Whether the server has every event that was ever read."""
        return not self.num_missing

    @property
    def stored(self) -> int:
        """How far the server is."""
        return self._stored

    @property
    def num_missing(self) -> int:
        """How many of the events that were ever read the server lacks, as far as is known."""
        return max(0, self._seen - self._stored)

    def pump(self) -> None:
        """Send what is new in the file; when Redis is away, keep it and try again later."""
        while events := self._unsent or self._told(self._tail.read()):
            self._note(events)
            self._unsent = events
            if not self._send(events):
                return
            self._sent = events[-1].seq
            self._unsent = []

    def confirm(self, stored: int) -> None:
        """Take in how far the server is; go back once it has got nothing new for too long."""
        if stored > self._stored or stored >= self._sent:
            self.give_time()
        self._stored = stored
        if time.monotonic() - self._moved_at > self._patience_s:
            log.warning("the server has events up to %d of %d; sending again", stored, self._sent, extra=self._about)
            self._tail.rewind(stored)
            self._unsent = []
            self.give_time()

    def give_time(self) -> None:
        """Start the server's time to store what was sent anew: it moved, or it was away."""
        self._moved_at = time.monotonic()

    def _note(self, events: Sequence[AnyEvent]) -> None:
        """Progress and end are known here even while Redis is away."""
        for event in events:
            self._seen = max(self._seen, event.seq)
            self.step = max(self.step, event.step)
            if isinstance(event, StateEvent) and event.phase == "ended":
                self.ended = event

    def _send(self, events: Sequence[AnyEvent]) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        text = "[" + ",".join(event.model_dump_json() for event in events) + "]"
        try:
            self._redis.xadd(
                STREAM,
                {"run": self._run_id, "attempt": str(self._attempt), "folder": self._folder, "events": text},
            )
        except (redis.RedisError, OSError) as error:
            log.warning("Redis does not take events (%s); they wait in the file", error, extra=self._about)
            self._retry_at = time.monotonic() + _RETRY_S
            self.redis_away = True
            return False
        self.redis_away = False
        return True


class Backfill:
    """What earlier attempts left in the run's folder and never got to the server.

    A worker that is killed takes with it what it had not sent. Which events those are the first
    heartbeat tells.
    """

    def __init__(
        self, boxes: Mapping[int, BlackBox], connection: redis.Redis, run_id: str, patience_s: float = 5.0
    ) -> None:
        self._tails = {attempt: EventTail(box.events) for attempt, box in boxes.items()}
        self._relays = {
            attempt: EventRelay(
                self._tails[attempt],
                connection,
                run_id,
                attempt,
                patience_s,
                folder=[earlier for earlier in sorted(boxes) if earlier < attempt],
                told=UsageLog(box.usage).told,
            )
            for attempt, box in boxes.items()
        }
        self._known = not boxes

    @property
    def all_known(self) -> bool:
        """Whether the server has told yet which events it lacks."""
        return self._known

    @property
    def relays(self) -> Sequence[EventRelay]:
        return list(self._relays.values())

    def confirm(self, stored: Mapping[int, int]) -> None:
        """Take in how far the server is with each earlier attempt."""
        for attempt, relay in self._relays.items():
            if not self._known:
                self._tails[attempt].rewind(stored.get(attempt, 0))
            relay.confirm(stored.get(attempt, 0))
        self._known = True

    def pump(self) -> None:
        if self._known:
            for relay in self._relays.values():
                relay.pump()

    def give_time(self) -> None:
        for relay in self._relays.values():
            relay.give_time()
