"""`python -m server`: check what the server needs, then serve until told to stop.

What is wrong at start is one sentence on stderr and exit status 2.
"""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import signal
import socket
import sys
from types import FrameType
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI

from nat_core import logs
from server.broker import Broker
from server.connections import ImpatientHttp
from server.credentials import Role, secrets_of, token_file, with_tokens
from server.errors import ServerError, StartError
from server.main import create_app
from server.settings import Settings

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 2000


class Server(uvicorn.Server):
    """uvicorn, ending the open streams when told to stop: it would wait for them otherwise."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # or anyone on this machine could call himself whom he likes, and escape the rate
                timeout_graceful_shutdown=5,
                http=ImpatientHttp,
                ws="none",
                log_config=None,
                limit_concurrency=MOST_CONNECTIONS,
            )
        )
        self._hub = app.state.hub

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._hub.close()
        super().handle_exit(sig, frame)


def main() -> int:
    logs.set_up()
    try:
        settings = Settings.from_env()
        own_home(settings)
        settings = with_tokens(settings)
        logs.set_up(settings.log_as_json, secrets_of(settings))
        listening = listen(settings)
        Broker(settings.redis_url).check()
        app = create_app(settings)
    except ServerError as error:
        print(f"natlab server: {error.message}", file=sys.stderr)
        return 2
    allow_open_files()
    say_where(settings, listening.getsockname()[1])
    server = Server(app)
    for stop in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # uvicorn raises the signal anew when it is done: then, too, it ends well
        signal.signal(stop, server.handle_exit)
    server.run(sockets=[listening])
    return 0


def say_where(settings: Settings, port: int) -> None:
    """Print the address; with its token on a terminal alone, since what is not one may be a log."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    link = f"http://{host}:{port}"
    if settings.token is not None and sys.stdout.isatty():
        link += f"/?token={quote(settings.token)}"
    elif settings.auth:
        log.info("the token is in %s", token_file(settings.home, Role.OPERATOR))
    print(f"natlab server at {link}", flush=True)


def listen(settings: Settings) -> socket.socket:
    """Take the port before anything else is set up, so that a taken one is a plain error."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except (OSError, UnicodeError) as error:  # UnicodeError: what is no name of a host at all
        reason = getattr(error, "strerror", None) or error
        raise StartError(
            f"NATLAB_PORT is {settings.port}, but the server cannot listen there on {settings.host} ({reason}); stop "
            "what uses it, choose another port, or correct NATLAB_HOST"
        ) from None
    return listening


def allow_open_files() -> None:
    """As many as connections may be open, and some: with 1024, which is usual, idle ones would keep SQLite from its."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + 500
    if allowed < wanted and allowed != resource.RLIM_INFINITY:
        upto = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (upto, most))


def own_home(settings: Settings) -> None:
    """Make the data folder and keep it for this process: SQLite wants one writer."""
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.runs.mkdir(mode=0o700, exist_ok=True)  # the home may be older, and open to all
        lock = os.open(settings.home / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until the process ends
    except BlockingIOError:
        raise StartError(
            f"NATLAB_HOME is {str(settings.home)!r}, which another natlab server uses; stop it or set another folder"
        ) from None
    except OSError as error:
        raise StartError(
            f"NATLAB_HOME is {str(settings.home)!r}, which cannot be written ({error.strerror}); set another folder"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
