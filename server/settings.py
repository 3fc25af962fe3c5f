"""Where the server keeps its state and how it is reached, read from the environment once."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from server.errors import SettingsError


@dataclass(frozen=True)
class Settings:
    """What `NATLAB_*` variables say. `Settings()` is a loopback server without Redis, as tests want it."""

    home: Path = Path(".natlab")
    redis_url: str = "redis://127.0.0.1:6379/0"
    host: str = "127.0.0.1"
    port: int = 8300
    token: str | None = field(default=None, repr=False)
    allowed_hosts: frozenset[str] = frozenset()
    lease_s: float = 60.0
    max_restarts: int = 3

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
        if not redis_url.startswith(("redis://", "rediss://", "unix://")):
            raise SettingsError(
                f"NATLAB_REDIS_URL is {without_password(redis_url)!r}, but the server needs a redis:// or unix:// "
                "address; set it, or start everything with `natlab up`"
            )
        settings = cls(
            home=Path(env.get("NATLAB_HOME") or ".natlab").expanduser().absolute(),
            redis_url=redis_url,
            host=env.get("NATLAB_HOST") or "127.0.0.1",
            port=_port(env.get("NATLAB_PORT") or "8300"),
            token=_token(env),
            allowed_hosts=frozenset(
                name.strip().lower() for name in env.get("NATLAB_ALLOWED_HOSTS", "").split(",") if name.strip()
            ),
            lease_s=_seconds("NATLAB_LEASE_S", env.get("NATLAB_LEASE_S") or "60"),
            max_restarts=_count("NATLAB_MAX_RESTARTS", env.get("NATLAB_MAX_RESTARTS") or "3"),
        )
        if settings.token is None and not settings.is_loopback:
            raise SettingsError(
                f"NATLAB_HOST is {settings.host!r}, but launching runs is running code, so without a token the "
                "server listens on loopback only; set NATLAB_TOKEN or NATLAB_TOKEN_FILE, or use 127.0.0.1"
            )
        return settings


def without_password(url: str) -> str:
    """The address as it may stand in a message: its password replaced by `***`."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    shown = f"{user.partition(':')[0]}:***@{host}" if ":" in user else f"{user}@{host}"
    return urlunsplit(parts._replace(netloc=shown))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise SettingsError(f"NATLAB_PORT is {text!r}, but a port is a whole number from 0 to 65535; correct it")
    return int(text)


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise SettingsError(f"{name} is {text!r}, but it is a number of seconds above 0; correct it")
    return value


def _count(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 1000:
        raise SettingsError(f"{name} is {text!r}, but it is a whole number from 0 to 1000; correct it")
    return int(text)


def _token(env: Mapping[str, str]) -> str | None:
    token, path = env.get("NATLAB_TOKEN"), env.get("NATLAB_TOKEN_FILE")
    if not token and path:
        try:
            token = Path(path).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"NATLAB_TOKEN_FILE is {path!r}, which cannot be read ({error}); correct the path or its permissions"
            ) from None
        if not token:
            raise SettingsError(f"NATLAB_TOKEN_FILE is {path!r}, which is empty; write the token into it")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise SettingsError("NATLAB_TOKEN holds characters that a header cannot carry; use letters and digits")
    return token or None
