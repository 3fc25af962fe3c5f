"""Where the server keeps its state and how it is reached, read from the environment once."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redis.connection import parse_url

from server.errors import SettingsError

_SHORTEST_TOKEN = 16
_LOG_FORMATS = ("text", "json")


@dataclass(frozen=True)
class Settings:
    """What `NATLAB_*` variables say. `Settings()` is a loopback server without Redis and tokens, as tests want it."""

    home: Path = Path(".natlab")
    redis_url: str = "redis://127.0.0.1:6379/0"
    host: str = "127.0.0.1"
    port: int = 8300
    auth: bool = True
    token: str | None = field(default=None, repr=False)
    viewer_token: str | None = field(default=None, repr=False)
    worker_token: str | None = field(default=None, repr=False)
    allowed_hosts: frozenset[str] = frozenset()
    allowed_roots: tuple[Path, ...] = ()
    lease_s: float = 60.0
    max_restarts: int = 3
    changes_per_s: float = 20.0
    max_queued: int = 1000
    log_as_json: bool = False

    @property
    def database(self) -> Path:
        return self.home / "natlab.db"

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Read and check the environment.

        Raises:
            SettingsError: naming the variable, its value, the rule and the remedy.
        """
        redis_url = env.get("NATLAB_REDIS_URL", "")
        if not _is_redis(redis_url):
            raise SettingsError(
                f"NATLAB_REDIS_URL is {without_password(redis_url)!r}, but the server needs a redis:// or unix:// "
                "address; set it, or start everything with `natlab up`"
            )
        settings = cls(
            home=_folder("NATLAB_HOME", env.get("NATLAB_HOME") or ".natlab"),
            redis_url=redis_url,
            host=env.get("NATLAB_HOST") or "127.0.0.1",
            port=_port(env.get("NATLAB_PORT") or "8300"),
            auth=_choice("NATLAB_AUTH", env.get("NATLAB_AUTH") or "token", ("token", "none")) == "token",
            token=_token(env, "NATLAB_TOKEN"),
            viewer_token=_token(env, "NATLAB_VIEWER_TOKEN"),
            worker_token=_token(env, "NATLAB_WORKER_TOKEN"),
            allowed_hosts=frozenset(
                name.strip().lower() for name in env.get("NATLAB_ALLOWED_HOSTS", "").split(",") if name.strip()
            ),
            allowed_roots=_roots(env.get("NATLAB_ALLOWED_ROOTS", "")),
            lease_s=_seconds("NATLAB_LEASE_S", env.get("NATLAB_LEASE_S") or "60"),
            max_restarts=_count("NATLAB_MAX_RESTARTS", env.get("NATLAB_MAX_RESTARTS") or "3"),
            changes_per_s=_number("NATLAB_CHANGES_PER_S", env.get("NATLAB_CHANGES_PER_S") or "20", "changes a second"),
            max_queued=_count("NATLAB_MAX_QUEUED", env.get("NATLAB_MAX_QUEUED") or "1000", most=1_000_000),
            log_as_json=_choice("NATLAB_LOG_FORMAT", env.get("NATLAB_LOG_FORMAT") or "text", ("text", "json"))
            == "json",
        )
        if not settings.auth and not settings.is_loopback:
            raise SettingsError(
                f"NATLAB_HOST is {settings.host!r}, but launching runs is running code, so with NATLAB_AUTH=none the "
                "server listens on loopback only; unset NATLAB_AUTH, or use 127.0.0.1"
            )
        return settings


def without_password(url: str) -> str:
    """The address as it may stand in a message: its password replaced by `***`.

    By its text, not by its parts: a password that holds `#`, `/` or `[` makes it an address with others, or none.
    """
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    shown = f"{user.partition(':')[0]}:***" if ":" in user else user
    return f"{scheme}{separator}{shown}{at}{host}"


def _is_redis(url: str) -> bool:
    """Whether this can be the address of a Redis, port and number included."""
    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        return False
    return True


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise SettingsError(f"NATLAB_PORT is {text!r}, but a port is a whole number from 0 to 65535; correct it")
    return int(text)


def _seconds(name: str, text: str) -> float:
    return _number(name, text, "seconds")


def _number(name: str, text: str, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise SettingsError(f"{name} is {text!r}, but it is a number of {unit} above 0; correct it")
    return value


def _count(name: str, text: str, most: int = 1000) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise SettingsError(f"{name} is {text!r}, but it is a whole number from 0 to {most}; correct it")
    return int(text)


def _folder(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise SettingsError(f"{name} is {text!r}, but there is no such user; write the folder out") from None


def _roots(text: str) -> tuple[Path, ...]:
    """The folders that are listed; without a list the one the server runs in, and the home of its user."""
    if text:
        return tuple(_folder("NATLAB_ALLOWED_ROOTS", part) for part in text.split(os.pathsep) if part)
    try:
        return Path.cwd(), Path.home()
    except RuntimeError:  # a user without a home
        return (Path.cwd(),)


def _choice(name: str, text: str, choices: Sequence[str]) -> str:
    if text not in choices:
        raise SettingsError(f"{name} is {text!r}, but it is one of {', '.join(choices)}; choose one")
    return text


def _token(env: Mapping[str, str], name: str) -> str | None:
    token, path = env.get(name), env.get(f"{name}_FILE")
    if not token and path:
        try:
            token = _folder(f"{name}_FILE", path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{name}_FILE is {path!r}, which cannot be read ({error}); correct the path or its permissions"
            ) from None
        if not token:
            raise SettingsError(f"{name}_FILE is {path!r}, which is empty; write the token into it")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise SettingsError(f"{name} holds characters that a header cannot carry; use letters and digits")
    if token and len(token) < _SHORTEST_TOKEN:
        raise SettingsError(
            f"{name} is {len(token)} characters long, but one that cannot be guessed has {_SHORTEST_TOKEN} or more; "
            "make one with `openssl rand -hex 32`"
        )
    return token or None
