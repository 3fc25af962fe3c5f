"""Connections that bring no whole request: uvicorn itself waits for one as long as the client likes."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_WITHIN_S = 60.0
"""For the head and the body of a request together; the guard gives a body that it waits for less, and says so."""

_NOT_WHOLE = (h11.IDLE, h11.SEND_BODY)


class ImpatientHttp(H11Protocol):
    """HTTP/1.1 with heads of 16 KiB at most; a connection on which a request is not whole in time is cut.

    Named to uvicorn, for where httptools is installed it would take that, which bounds no head.
    """

    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_at_ease()
        super().connection_lost(exc)

    def _look(self) -> None:
        if self.conn.their_state not in _NOT_WHOLE:
            self._be_at_ease()
        elif self._cut is None:
            self._cut = self.loop.call_later(REQUEST_WITHIN_S, self.transport.abort)

    def _be_at_ease(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
