"""A real HTTP server on loopback that answers from a table and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel, TypeAdapter

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class Hangup(Exception):
    """Raised by a route: the connection ends without an answer."""


@dataclass
class Asked:
    method: str
    path: str
    body: Any
    headers: dict[str, str]


@dataclass
class Answering:
    """`routes` maps "METHOD /path" (query left out) to an answer or a function of the request."""

    routes: dict[str, Answer | Callable[[Asked], Answer]]
    asked: list[Asked] = field(default_factory=list)
    url: str = ""


@contextmanager
def answering(routes: dict[str, Answer | Callable[[Asked], Answer]]) -> Iterator[Answering]:
    table = Answering(routes)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked = Asked(self.command, self.path, body, dict(self.headers))
            table.asked.append(asked)
            route = table.routes.get(f"{self.command} {self.path.partition('?')[0]}", (404, problem(404, "not_found")))
            try:
                status, content, *more = route(asked) if callable(route) else route
            except Hangup:
                self.close_connection = True
                return
            data = content if isinstance(content, bytes) else to_json(content)
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    table.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield table
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def problem(status: int, code: str, detail: str = "it is not there") -> dict[str, Any]:
    return {"title": "Refused", "status": status, "detail": detail, "code": code}


def to_json(content: Any) -> bytes:
    if isinstance(content, (BaseModel, list)):
        return TypeAdapter(type(content)).dump_json(content)
    return json.dumps(content).encode()
