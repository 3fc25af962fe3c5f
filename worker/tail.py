"""Reading a growing `events.jsonl`: whole lines only, each checked before it travels on."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import ValidationError

from nat_core.events import AnyEvent, LogEvent, parse_event

_CHUNK_BYTES = 256 * 1024


class EventTail:
    """The events of one attempt, in order. The n-th line is the event with `seq` n."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._step = 0
        self.seq = 0
        """The last event read."""

    def read(self) -> list[AnyEvent]:
        """The next events, up to a chunk of them; empty at the end of what is written."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                chunk = file.read(_CHUNK_BYTES)
                if b"\n" not in chunk:
                    chunk += file.readline()  # a line longer than a chunk
        except FileNotFoundError:
            return []
        whole = chunk[: chunk.rfind(b"\n") + 1]  # the trainer may be in the middle of a line
        self._offset += len(whole)
        return [self._event(line) for line in whole.split(b"\n")[:-1]]

    def rewind(self, seq: int) -> None:
        """Read on after event `seq`, which lies behind."""
        with self._path.open("rb") as file:
            self._offset = sum(len(file.readline()) for _ in range(seq))
        self.seq = seq

    def _event(self, line: bytes) -> AnyEvent:
        """The line's event; a line that is none becomes a log event, so that no number is left out."""
        self.seq += 1
        try:
            event = parse_event(line)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
        else:
            if event.seq == self.seq:
                self._step = event.step
                return event
            problem = f"its seq is {event.seq}"
        return LogEvent(
            seq=self.seq,
            time=time.time(),
            step=self._step,
            level="error",
            message=f"line {self.seq} of events.jsonl is not the event {self.seq} ({problem}); it was left out",
        )
