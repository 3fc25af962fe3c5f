"""Requests that no server should have to see, byte by byte, and clients of streams that do not do their part."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.stack import TOKEN, Stack

MIB = b" " * 2**20
DEEP = 100_000
PLAN = "/api/v1/experiments/plan"


def head(method: str, path: str, *fields: str, token: str | None = TOKEN) -> bytes:
    known = ["Host: 127.0.0.1", "Content-Type: application/json"]
    if token is not None:
        known.append(f"Authorization: Bearer {token}")
    return "\r\n".join([f"{method} {path} HTTP/1.1", *known, *fields, "", ""]).encode()


def posted(body: bytes) -> list[bytes]:
    return [head("POST", PLAN, f"Content-Length: {len(body)}"), body]


def of_100_mb(method: str, path: str, **kwargs: Any) -> Iterable[bytes]:
    yield head(method, path, f"Content-Length: {100 * 2**20}", **kwargs)
    yield from [MIB] * 100


def of_100_mb_in_chunks() -> Iterable[bytes]:
    yield head("POST", PLAN, "Transfer-Encoding: chunked")
    for _ in range(100):
        yield b"100000\r\n" + MIB + b"\r\n"
    yield b"0\r\n\r\n"


REFUSED = {400, 422}
ATTACKS: dict[str, tuple[Callable[[], Iterable[bytes]], set[int | None]]] = {
    "100 MB, announced": (lambda: of_100_mb("POST", PLAN), {413}),
    "100 MB in chunks": (of_100_mb_in_chunks, {413}),
    "100 MB with a GET": (lambda: of_100_mb("GET", "/api/v1/runs"), {200}),
    "100 MB from nobody": (lambda: of_100_mb("POST", PLAN, token=None), {401}),
    "lists, deep": (lambda: posted(b"[" * DEEP), {400}),
    "objects, deep": (lambda: posted(b'{"a":' * DEEP), {400}),
    "JSON cut off": (lambda: posted(b'{"name": "x", "budgets": ['), {400}),
    "no text": (lambda: posted(b"\xff\xfe{\x00"), REFUSED),
    "half a character": (lambda: posted(b'{"name": "\\ud800"}'), REFUSED),
    "a field that is half a character": (lambda: posted(b'{"\\udfff": 1}'), REFUSED),
    "a field of NULs": (lambda: posted(b'{"\\u0000": "\\u0000"}'), REFUSED),
    "a number without end": (lambda: posted(b'{"seeds": [' + b"9" * DEEP + b"]}"), REFUSED),
    "no numbers": (lambda: posted(b'{"margin": NaN, "seeds": [Infinity, 1e999]}'), REFUSED),
    "many wrong fields": (lambda: posted(json.dumps({str(n): n for n in range(20_000)}).encode()), REFUSED),
    "no HTTP": (lambda: [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)], {400}),
    "a line without end": (lambda: [b"GET /" + 10 * MIB.replace(b" ", b"a")], {400, None}),
    "a head without end": (lambda: [b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10**6], {400, None}),
    "two lengths": (lambda: [head("POST", PLAN, "Content-Length: 2", "Content-Length: 3"), b"{}"], {400}),
    "a length below none": (lambda: [head("POST", PLAN, "Content-Length: -2"), b"{}"], {400}),
    "chunks of no size": (lambda: [head("POST", PLAN, "Transfer-Encoding: chunked"), b"zz\r\n{}\r\n"], {400}),
    "a NUL in the head": (lambda: [head("GET", "/healthz", "X: \0")], {400}),
    "no method of ours": (lambda: [head("FROBNICATE", "/api/v1/runs")], {405}),
}
"""What is sent, and the statuses it may get; None where the server may cut the connection without a word."""


def sent(stack: Stack, pieces: Iterable[bytes]) -> int | None:
    """The status of the answer. The server may answer, and close, before it has got everything."""
    with socket.create_connection(("127.0.0.1", stack.port), timeout=60) as wire:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                wire.sendall(piece)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while b"\r\n\r\n" not in received and (piece := wire.recv(65536)):
                received += piece
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", received)
    return int(found[1]) if found else None


def held_open(stack: Stack, first: bytes, receive_bytes: int | None = None) -> socket.socket:
    """A connection on which no more than this is ever sent."""
    wire = socket.socket()
    if receive_bytes is not None:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    wire.settimeout(60)
    wire.connect(("127.0.0.1", stack.port))
    wire.sendall(first)
    return wire


@dataclass
class Reader:
    """Reads a run's stream until the run has ended; one that is `restless` goes after each event and comes back."""

    stack: Stack
    run_id: str
    restless: bool
    heard: list[tuple[str, str, str]] = field(default_factory=list)
    connections: int = 0
    failed: BaseException | None = None

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        try:
            with httpx.Client(base_url=self.stack.url, headers=self.stack.http.headers, timeout=60) as http:
                while not self._has_ended():
                    self._listen(http)
        except BaseException as error:
            self.failed = error

    def _has_ended(self) -> bool:
        return any(event == "run" and json.loads(data)["finished_at"] for _, event, data in self.heard)

    def _listen(self, http: httpx.Client) -> None:
        self.connections += 1
        last = {"Last-Event-ID": self.heard[-1][0]} if self.heard else {}
        with http.stream("GET", "/api/v1/stream", params={"run_id": self.run_id}, headers=last) as answer:
            assert answer.status_code == 200
            part: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                part[name] = value
                if not line and "data" in part:
                    self.heard.append((part["id"], part["event"], part["data"]))
                    part = {}
                    if self.restless or self._has_ended():
                        return
