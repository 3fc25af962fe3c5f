"""The run's black box: every event a line of `events.jsonl`, in order, on disk before anyone else hears of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from nat_core.events import AnyEvent, Event

E = TypeVar("E", bound=Event)
Sink = Callable[[AnyEvent], None]


class Reporter:
    """Numbers, dates and writes events, then hands them to `sink`."""

    def __init__(self, path: Path, sink: Sink | None = None) -> None:
        """Open or go on with `path`; numbering continues after the events already there."""
        self._file = path.open("a+", encoding="utf-8")
        self._file.seek(0)
        self._seq = sum(1 for _ in self._file)
        self._sink = sink
        self.step = 0

    def emit(self, kind: type[E], **fields: Any) -> E:
        """Report one event; `seq`, `time` and `step` are filled in."""
        self._seq += 1
        event = kind(seq=self._seq, time=time.time(), step=self.step, **fields)
        self._file.write(event.model_dump_json() + "\n")
        self._file.flush()
        if self._sink is not None:
            self._sink(event)  # type: ignore[arg-type]
        return event

    def close(self) -> None:
        self._file.close()
