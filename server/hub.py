"""The live wire to browsers: what changed is told to every listener that asked for it.

Publishing comes from any thread and never waits. A listener that reads too slowly loses what it
missed and is told once to fetch everything anew (`resync`). One that was cut off and comes back soon with
`Last-Event-ID` is told what it missed; otherwise it too gets a `resync`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace

from server.errors import BusyError

_QUEUE_LENGTH = 256
_REMEMBERED = 256

_MOST_LISTENERS = 1000


@dataclass(frozen=True)
class Message:
    """One server-sent event. `data` is JSON text; an empty id means that it concerns everyone.

    `id` is the hub's number for it.
    """

    event: str
    data: str
    experiment_id: str = ""
    run_id: str = ""
    id: str = ""

    def encode(self) -> str:
        number = f"id: {self.id}\n" if self.id else ""
        return f"{number}event: {self.event}\ndata: {self.data}\n\n"


RESYNC = Message("resync", "{}")
PING = Message("ping", "{}")
"""Fills silence, so that a line that has died is told from one on which nothing happens: a page hears no comments."""


@dataclass(eq=False)
class Listener:
    """One open stream, and what it wants to hear of."""

    loop: asyncio.AbstractEventLoop
    experiment_id: str | None = None
    run_id: str | None = None
    queue: asyncio.Queue[Message | None] = field(default_factory=lambda: asyncio.Queue(_QUEUE_LENGTH))

    def wants(self, message: Message) -> bool:
        if not message.run_id:
            return True
        return self.run_id in (None, message.run_id) and self.experiment_id in (None, message.experiment_id)

    def put(self, message: Message | None) -> None:
        """Runs in the listener's own loop."""
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            self.queue.put_nowait(RESYNC)
        self.queue.put_nowait(message)


class Hub:
    """Who listens now."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._name = secrets.token_hex(4)  # ids of an earlier server mean nothing to this one
        self._count = 0
        self._recent: deque[Message] = deque(maxlen=_REMEMBERED)
        self._lock = threading.RLock()  # a signal closes the hub in the thread that may just be opening a stream
        self._closed = False

    @property
    def num_listeners(self) -> int:
        with self._lock:
            return len(self._listeners)

    def publish(self, message: Message) -> None:
        with self._lock:
            self._count += 1
            message = replace(message, id=f"{self._name}-{self._count}")
            self._recent.append(message)
            listeners = [listener for listener in self._listeners if listener.wants(message)]
            _post(listeners, message)  # within the lock, so that numbers come in order

    def open(self, experiment_id: str | None = None, run_id: str | None = None, last_id: str | None = None) -> Listener:
        """Start listening; what is published from now on waits in the listener's queue, after what it missed.

        Args:
            last_id: the newest event that the caller has, if it was here before.
        """
        listener = Listener(asyncio.get_running_loop(), experiment_id, run_id)
        with self._lock:
            if len(self._listeners) >= _MOST_LISTENERS:
                raise BusyError(f"{_MOST_LISTENERS} live streams are open; close some, or poll instead")
            self._listeners.add(listener)
            missed = [] if last_id is None else self._since(last_id)
            for message in filter(listener.wants, missed):
                listener.put(message)
            closed = self._closed
        if closed:
            listener.put(None)
        return listener

    def _since(self, last_id: str) -> list[Message]:
        """What came after an event, or `RESYNC` where that is no longer known."""
        name, _, number = last_id.rpartition("-")
        first = self._count - len(self._recent)
        if name != self._name or not number.isdecimal() or not first <= int(number) <= self._count:
            return [RESYNC]
        return list(self._recent)[int(number) - first :]

    async def read(self, listener: Listener, ping_s: float) -> AsyncIterator[str]:
        """The stream's text until the hub closes or the reader goes; silence is filled with pings."""
        try:
            while True:
                try:
                    message = await asyncio.wait_for(listener.queue.get(), ping_s)
                except TimeoutError:
                    yield PING.encode()
                    continue
                if message is None:
                    return
                yield message.encode()
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        with self._lock:
            self._closed = True
            listeners = list(self._listeners)
        _post(listeners, None)


def _post(listeners: Iterable[Listener], message: Message | None) -> None:
    """Hand a message to listeners: each of their loops is woken once, however many of them it has."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Listener]] = defaultdict(list)
    for listener in listeners:
        by_loop[listener.loop].append(listener)
    for loop, together in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended, and its listeners with it
            loop.call_soon_threadsafe(_put, together, message)


def _put(listeners: Iterable[Listener], message: Message | None) -> None:
    for listener in listeners:
        listener.put(message)
