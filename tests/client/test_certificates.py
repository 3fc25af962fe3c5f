"""Whose certificates are believed: what `SSL_CERT_FILE` says, and no proxy beside it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from client.api import NatLab, ServerUnreachable
from client.cli import run
from client.errors import ClientError
from nat_core.authorities import trusted
from nat_core.errors import RolloutError
from nat_core.rollout.vllm_http import Server
from worker.client import ServerClient
from worker.errors import ServerAwayError, StrangerError

PEM = Path(__file__).with_name("loopback.pem")
"""A certificate of 127.0.0.1 that is its own authority, with its key."""


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"status": "ok", "version": "1.2.3"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """A server behind TLS."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_authority_of_one_s_own_is_believed_where_the_environment_names_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NatLab(url, retries=0) as lab, pytest.raises(ServerUnreachable, match="certificate"):
        lab.server_version()
    with pytest.raises(ServerAwayError, match="certificate"):
        ServerClient(url).stored("run-1")
    with pytest.raises(RolloutError, match="certificate"):
        Server(url, 10).get("/healthz")
    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # is not asked all the same
    with NatLab(url, retries=0) as lab:
        assert lab.server_version() == "1.2.3"
    with pytest.raises(StrangerError):  # it answers; that it is no natlab server is another matter
        ServerClient(url.replace("https", "HTTPS")).stored("run-1")
    assert Server(url, 10).get("/healthz")["status"] == "ok"


def test_a_file_without_certificates_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NATLAB_URL", "https://gpu-box")
    for file in ("/dev/null", "/nowhere/ca.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", file)
        assert run(["ls"]) == 2
        assert capsys.readouterr().err.startswith(f"SSL_CERT_FILE is {file!r}, which holds no certificates")


def test_no_list_of_authorities_is_read_for_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    context = trusted("http://127.0.0.1:8300", ClientError)
    assert context.cert_store_stats()["x509"] == 0 and context.verify_mode is ssl.CERT_REQUIRED
