"""How much a request may bring: the length, depth and slowness of bodies, and how many changes a second."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from server.credentials import SAFE_METHODS
from server.errors import BadJsonError, SlowBodyError, TooLargeError, TooManyRequestsError

MAX_BODY_BYTES = 1024 * 1024
MAX_DEPTH = 64
BODY_WITHIN_S = 30.0
_MOST_CALLERS = 1000
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


async def bounded(scope: Scope, receive: Receive) -> Receive:
    """Read the body up to the caps, whatever its declared length, and hand it on whole."""
    if scope["method"] in SAFE_METHODS:
        return receive
    length = Headers(scope=scope).get("content-length", "0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await _read(receive)
    except TimeoutError:
        raise SlowBodyError(f"the request body did not arrive within {BODY_WITHIN_S:g} s; send it in one go") from None
    if body is None:
        return receive
    check_depth(body)
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _read(receive: Receive) -> bytes | None:
    """The body; None when the caller has gone."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > MAX_BODY_BYTES:
            raise _too_large()
    return b"".join(parts)


def check_depth(body: bytes) -> None:
    """Refuse JSON that nests too deep, before a parser follows it down."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", body)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise BadJsonError(f"the request body nests deeper than {MAX_DEPTH} levels; send a flatter one")


class Rate:
    """A token bucket for each caller: `per_s` changes a second in the long run, `burst` at once."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, caller: str) -> None:
        """Count one change. Raises `TooManyRequestsError` when none is left."""
        now = self._clock()
        left, since = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_s)
        while len(self._left) >= _MOST_CALLERS:  # the one that was heard of longest ago
            self._left.pop(next(iter(self._left)))
        if left < 1:
            self._left[caller] = (left, now)
            raise TooManyRequestsError(
                f"changes come faster than {self._per_s:g} a second; wait, or set NATLAB_CHANGES_PER_S",
                retry_after_s=math.ceil((1 - left) / self._per_s),
            )
        self._left[caller] = (left - 1, now)


def _too_large() -> TooLargeError:
    return TooLargeError(f"the request body is longer than {MAX_BODY_BYTES} bytes; send a smaller one")
