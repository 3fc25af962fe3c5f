"""How this worker reaches the server and Redis, and where runs lie, read from the environment once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from redis.connection import parse_url

from worker.errors import WorkerError

_SECRETS = ("NATLAB_TOKEN", "NATLAB_TOKEN_FILE", "NATLAB_WORKER_TOKEN", "NATLAB_WORKER_TOKEN_FILE", "NATLAB_REDIS_URL")


@dataclass(frozen=True)
class WorkerSettings:
    """What `NATLAB_*` variables say, and how patient the worker is."""

    home: Path
    redis_url: str
    server_url: str = "http://127.0.0.1:8300"
    token: str | None = field(default=None, repr=False)
    labels: tuple[str, ...] = ()  # what runs may ask for by `resources.worker_label`
    slots: int | None = None  # worker processes; as many as GPUs when not set
    heartbeat_s: float = 2.0
    tail_s: float = 0.25
    resend_s: float = 5.0  # for the server to store what was sent, before it is sent again
    stored_wait_s: float = 120.0  # at a run's end, for a server that answers to store one more event
    folder_wait_s: float = 15.0  # for an earlier trainer to let go of the run's folder
    stop_grace_s: float = 120.0  # a trainer that is to stop or pause ends its forward pass and writes a checkpoint
    shutdown_grace_s: float = 5.0  # the same when the worker itself was told to go
    hang_s: float = 1800.0  # a trainer without any progress for so long is ended
    log_as_json: bool = False
    spare: bool = True  # while it idles, a worker keeps a trainer that has loaded torch already

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no line of the log may show."""
        return tuple(secret for secret in (self.token, urlsplit(self.redis_url).password) if secret)

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> WorkerSettings:
        """Read and check the environment.

        Raises:
            WorkerError: naming the variable, its value, the rule and the remedy.
        """
        redis_url = env.get("NATLAB_REDIS_URL", "")
        if not _is_address(parse_url, redis_url):
            raise WorkerError(
                f"NATLAB_REDIS_URL is {without_password(redis_url)!r}, but the worker needs a redis:// or unix:// "
                "address; set it, or start everything with `natlab up`"
            )
        server_url = env.get("NATLAB_SERVER_URL") or f"http://127.0.0.1:{env.get('NATLAB_PORT') or '8300'}"
        if not server_url.startswith(("http://", "https://")) or not _is_address(httpx.URL, server_url):
            raise WorkerError(
                f"NATLAB_SERVER_URL is {server_url!r}, but the worker needs an http:// address; correct it"
            )
        home = _path("NATLAB_HOME", env.get("NATLAB_HOME") or ".natlab").absolute()
        heartbeat_s = _seconds("NATLAB_HEARTBEAT_S", env.get("NATLAB_HEARTBEAT_S") or "2")
        return cls(
            home=home,
            redis_url=redis_url,
            server_url=server_url.rstrip("/"),
            token=_token(env, home),
            labels=tuple(label.strip() for label in env.get("NATLAB_LABELS", "").split(",") if label.strip()),
            slots=_slots(env.get("NATLAB_WORKER_SLOTS") or ""),
            heartbeat_s=heartbeat_s,
            resend_s=max(5.0, 2.5 * heartbeat_s),
            stop_grace_s=_seconds("NATLAB_STOP_GRACE_S", env.get("NATLAB_STOP_GRACE_S") or "120"),
            hang_s=_seconds("NATLAB_HANG_S", env.get("NATLAB_HANG_S") or "1800"),
            shutdown_grace_s=_seconds("NATLAB_SHUTDOWN_GRACE_S", env.get("NATLAB_SHUTDOWN_GRACE_S") or "5"),
            log_as_json=_choice("NATLAB_LOG_FORMAT", env, ("text", "json")) == "json",
            spare=_choice("NATLAB_SPARE_TRAINER", env, ("on", "off")) == "on",
        )


def trainer_environment() -> dict[str, str]:
    """This process's environment without what no trainer needs to know."""
    return {name: value for name, value in os.environ.items() if name not in _SECRETS}


def without_password(url: str) -> str:
    """The address as it may stand in a message: its password replaced by `***`, whatever characters that holds."""
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}:***@{host}" if at and ":" in user else url


def _is_address(parse: Callable[[str], Any], url: str) -> bool:
    """Whether an address is one for whoever is to use it, down to its port."""
    try:
        parse(url)
    except (ValueError, httpx.InvalidURL):
        return False
    return True


def _path(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise WorkerError(f"{name} is {text!r}, but there is no such user; write the folder out") from None


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise WorkerError(f"{name} is {text!r}, but it is a number of seconds above 0; correct it")
    return value


def _choice(name: str, env: Mapping[str, str], choices: Sequence[str]) -> str:
    """One of the choices, the first where nothing is set."""
    text = env.get(name) or choices[0]
    if text not in choices:
        raise WorkerError(f"{name} is {text!r}, but it is {' or '.join(choices)}; correct it")
    return text


def _slots(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 64:
        raise WorkerError(f"NATLAB_WORKER_SLOTS is {text!r}, but it is a whole number from 1 to 64; correct it")
    return int(text)


def _token(env: Mapping[str, str], home: Path) -> str | None:
    """The first that is set: a token for workers, the server's own, the one that a server left in the data folder."""
    for name in ("NATLAB_WORKER_TOKEN", "NATLAB_TOKEN"):
        token, path = env.get(name), env.get(f"{name}_FILE")
        if token or path:
            return token or _token_in(f"{name}_FILE", _path(f"{name}_FILE", path or ""))
    kept = home / "worker-token"
    return _token_in("the worker's token file", kept) if kept.exists() else None


def _token_in(name: str, path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise WorkerError(
            f"{name} is {str(path)!r}, which cannot be read ({error}); correct the path or its permissions"
        ) from None
