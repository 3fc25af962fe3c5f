"""ETags: what has not changed since the caller asked last is not sent again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute


class ConditionalRoute(APIRoute):
    """A GET whose answers carry a digest of their body as ETag, and are 304 where `If-None-Match` names it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if "GET" not in (self.methods or ()):
            return handle

        async def conditional(request: Request) -> Response:
            answer = await handle(request)
            if answer.status_code != 200 or isinstance(answer, StreamingResponse):
                return answer
            tag = f'"{hashlib.blake2b(bytes(answer.body), digest_size=12).hexdigest()}"'
            answer.headers["etag"] = tag
            # Keep it, and ask every time whether it still holds: answers change without notice.
            answer.headers.setdefault("cache-control", "private, no-cache")
            if not is_named(tag, request.headers.get("if-none-match", "")):
                return answer
            kept = {name: answer.headers[name] for name in ("etag", "cache-control")}
            return Response(status_code=304, headers=kept)

        return conditional


def is_named(tag: str, if_none_match: str) -> bool:
    """Whether the header names this tag: weakly compared (RFC 9110, 13.1.2), and `*` names any."""
    given = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return tag in given or given == {"*"}
