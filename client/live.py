"""What the server's live stream tells, and how its lines are read."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from client.errors import ServerUnreachable
from client.exchange import Request
from nat_core.records import RunRecord

SILENT_FOR_S = 45.0
"""The server says something every 15 s; a stream silent for this long is dead."""


@dataclass(frozen=True)
class RunChanged:
    """A run has a new state, step or newest value; this is the whole of it."""

    run: RunRecord


class NewMetrics(BaseModel):
    """A run reported up to this step; ask for its metrics since the last one you have."""

    run_id: str
    experiment_id: str
    step: int


@dataclass(frozen=True)
class Resync:
    """Something may have been missed: fetch what you show anew. A stream begins with one."""


LiveEvent = RunChanged | NewMetrics | Resync


def stream_request(experiment_id: str | None, run_id: str | None) -> Request:
    """Opens the stream; patient, since a watcher outlives a server that is started anew."""
    params = {"experiment_id": experiment_id, "run_id": run_id}
    return Request("GET", "/api/v1/stream", params=params, patience_s=120.0)


class LiveReader:
    """Puts server-sent events together from their lines (https://html.spec.whatwg.org/#server-sent-events).

    One reader serves a stream over all its connections, and remembers the last event that it had.
    """

    def __init__(self) -> None:
        self._event = ""
        self._data: list[str] = []
        self._last_id = ""

    def begin(self) -> list[LiveEvent]:
        """A connection is made: what was half said on the one before is void. `Resync` if nothing was said yet."""
        self._event, self._data = "", []
        return [] if self._last_id else [Resync()]

    @property
    def headers(self) -> dict[str, str]:
        """By which the server knows what to tell first."""
        return {"Last-Event-ID": self._last_id} if self._last_id else {}

    def feed(self, line: str) -> LiveEvent | None:
        """Take one line without its end; an event when that was its last one and it is one that we know."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                self._event = value
            elif name == "data":
                self._data.append(value)
            elif name == "id":
                self._last_id = value
            return None
        event, data = self._event, "\n".join(self._data)
        self._event, self._data = "", []
        return _known(event, data) if data else None


def _known(event: str, data: str) -> LiveEvent | None:
    try:
        if event == "run":
            return RunChanged(RunRecord.model_validate_json(data))
        if event == "metrics":
            return NewMetrics.model_validate_json(data)
    except ValidationError as error:
        raise ServerUnreachable(
            f"the live stream sent a {event!r} event that does not fit ({error.error_count()} fields); "
            "use a client of the server's version"
        ) from None
    return Resync() if event == "resync" else None  # a newer server may tell of more
