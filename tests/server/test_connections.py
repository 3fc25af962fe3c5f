"""Connections that bring no whole request: each is cut in time, and those that wait for an answer are not."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

from server import connections
from server.__main__ import MOST_CONNECTIONS, Server
from tests.server.conftest import Api
from tests.server.support import served
from tests.server.test_stream import listening, next_of

SHORT_S = 0.3


@pytest.fixture
def url(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(connections, "REQUEST_WITHIN_S", SHORT_S)
    with served(app, server=Server(app)) as url:
        yield url


def answer_to(url: str, sent: bytes) -> bytes:
    """All that comes back until the server cuts the connection."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as wire:
        wire.sendall(sent)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := wire.recv(65536):
                received += piece
        return received


HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHANGE = HEAD.replace(b"GET /healthz", b"POST /api/v1/runs") + b"Content-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (HEAD, None),
        (HEAD + b"Content-Length: 10\r\n\r\n", b"200"),  # it is answered, and the body never comes
        (HEAD + b"\r\n" + HEAD, b"200"),  # the second of two
        (CHANGE + b"Content-Length: 10\r\n\r\n{", None),
    ],
    ids=["nothing", "part of a head", "no body", "part of a second head", "part of a body"],
)
def test_a_request_that_is_not_whole_in_time_is_cut(url: str, sent: bytes, status: bytes | None) -> None:
    received = answer_to(url, sent)
    assert received.startswith(b"HTTP/1.1 " + status) if status else received == b""


@pytest.mark.parametrize("head", [b"GET /" + b"a" * 70_000, HEAD + b"X: " + b"a" * 70_000])
def test_a_head_without_end_is_refused(url: str, head: bytes) -> None:
    assert answer_to(url, head)[:12] in (b"HTTP/1.1 400", b"")  # or it was cut before it could be read


def test_a_stream_and_a_connection_that_is_kept_outlive_that_time(url: str) -> None:
    with httpx.Client(base_url=url) as http, listening(url) as stream:
        api = Api(http)
        api.one_run()
        answer_to(url, HEAD)
        answer_to(url, HEAD)
        run_id = api.one_run()
        while next_of(stream, "run")["id"] != run_id:
            pass


def test_more_files_may_be_open_than_connections() -> None:
    """What is usual is less than that: SQLite would get none."""
    program = (
        "import resource; from server.__main__ import allow_open_files; most = resource.getrlimit(7)[1]; "
        "resource.setrlimit(7, (64, most)); allow_open_files(); print(*resource.getrlimit(7))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=True)
    allowed, most = map(int, done.stdout.split())
    assert allowed > MOST_CONNECTIONS or allowed == most
