"""The run's black box: every event a line of `events.jsonl`, in order, on disk before anyone else hears of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from nat_core.errors import DiskError
from nat_core.events import AnyEvent, Event, LogEvent

E = TypeVar("E", bound=Event)
Sink = Callable[[AnyEvent], None]
_TOUCH_S = 1.0


class Reporter:
    """Numbers, dates and writes events, then hands them to `sink`. The file holds whole lines only."""

    def __init__(self, path: Path, sink: Sink | None = None) -> None:
        """Open or go on with `path`; numbering continues after the events already there."""
        self._path = path
        self._file = path.open("ab", buffering=0)
        whole = path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]  # a trainer that was killed may have left half a line
        self._file.truncate(len(whole))
        self._size = len(whole)
        self._seq = whole.count(b"\n")
        self._sink = sink
        self._touched_at = 0.0
        self.step = 0

    def emit(self, kind: type[E], **fields: Any) -> E:
        """Report one event; `seq`, `time` and `step` are filled in.

        Raises:
            DiskError: it cannot be written; the file is as it was.
        """
        event = kind(seq=self._seq + 1, time=time.time(), step=self.step, **fields)
        self._write(event.model_dump_json().encode() + b"\n")
        self._seq += 1
        if self._sink is not None:
            self._sink(event)  # type: ignore[arg-type]
        return event

    def sync(self) -> None:
        """Bring what was reported to disk: a checkpoint that outlives a power cut needs the steps before it.

        Raises:
            DiskError: the disk does not take it.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DiskError(f"{self._path} cannot be written ({error.strerror}); free some disk space") from None

    def touch(self) -> None:
        """Show that there is progress, once a second at most: whoever watches the file's time sees it."""
        now = time.monotonic()
        if now - self._touched_at >= _TOUCH_S:
            self._touched_at = now
            os.utime(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _write(self, line: bytes) -> None:
        rest = line
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(self._size)
            raise DiskError(f"{self._path} cannot be written ({error.strerror}); free some disk space") from None
        self._size += len(line)


class Unheard(Reporter):
    """For ranks other than the first, which reports what they all know; only their warnings go to standard error."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self.step = 0

    def emit(self, kind: type[E], **fields: Any) -> E:
        event = kind(seq=1, time=time.time(), step=self.step, **fields)
        if isinstance(event, LogEvent) and event.level == "warning":
            print(f"natlab: rank {self._rank}: {event.message}", file=sys.stderr, flush=True)
        return event

    def touch(self) -> None:
        """Nobody watches."""

    def close(self) -> None:
        """Nothing is open."""
