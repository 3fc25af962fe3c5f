"""Who may do what, and the tokens that prove it, made at the first start and kept in the data folder.

| role | may | its token |
|---|---|---|
| operator | everything, worker endpoints only by token and not by cookie | `NATLAB_TOKEN`, else `<home>/token` |
| viewer | read (GET) | `NATLAB_VIEWER_TOKEN`, else `<home>/viewer-token` |
| worker | register, list workers, claim a run, tell and ask of it | `NATLAB_WORKER_TOKEN`, else `<home>/worker-token` |

A token opens its role as `Authorization: Bearer …`, or once by link (`?token=…`), which leaves a cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from server.errors import StartError
from server.settings import Settings

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_WORKERS_OWN = re.compile(
    r"PUT /api/v1/workers/[^/]+|POST /api/v1/workers/[^/]+/claim|POST /api/v1/runs/[^/]+/(claim|heartbeat|finish)"
)
_WORKERS_READ = re.compile(r"GET /api/v1/workers|GET /api/v1/runs/[^/]+/stored")


class Role(StrEnum):
    OPERATOR = "operator"
    VIEWER = "viewer"
    WORKER = "worker"


_FILES = {Role.OPERATOR: "token", Role.VIEWER: "viewer-token", Role.WORKER: "worker-token"}


def token_file(home: Path, role: Role) -> Path:
    return home / _FILES[role]


def with_tokens(settings: Settings) -> Settings:
    """The settings with every token that the environment left out read from its file, which is made if need be."""
    if not settings.auth:
        return settings

    def known_or_kept(role: Role, known: str | None) -> str:
        return known or _kept(token_file(settings.home, role))

    settings = replace(
        settings,
        token=known_or_kept(Role.OPERATOR, settings.token),
        viewer_token=known_or_kept(Role.VIEWER, settings.viewer_token),
        worker_token=known_or_kept(Role.WORKER, settings.worker_token),
    )
    if len(set(tokens_of(settings).values())) < len(Role):
        raise StartError(
            "two of NATLAB_TOKEN, NATLAB_VIEWER_TOKEN and NATLAB_WORKER_TOKEN (or of the files of these names) are the "
            "same, but a token stands for one role, and who may only look could launch; give each its own"
        )
    return settings


def tokens_of(settings: Settings) -> dict[Role, str]:
    """By role, the tokens that open this server. Empty: it is open to whoever reaches it."""
    if settings.token is None:
        return {}
    found = {Role.VIEWER: settings.viewer_token, Role.WORKER: settings.worker_token}
    return {Role.OPERATOR: settings.token} | {role: token for role, token in found.items() if token is not None}


def secrets_of(settings: Settings) -> list[str]:
    """What no log may show: every token, what cookies hold, and Redis's password."""
    tokens = list(tokens_of(settings).values())
    return [*tokens, *map(cookie_value, tokens), urlsplit(settings.redis_url).password or ""]


def may(role: Role, method: str, path: str, by_cookie: bool = False) -> bool:
    """Whether a role may make this request."""
    asked = f"{method} {path}"
    if role is Role.OPERATOR:
        return not (by_cookie and _WORKERS_OWN.fullmatch(asked))
    if role is Role.WORKER:
        return bool(_WORKERS_OWN.fullmatch(asked) or _WORKERS_READ.fullmatch(asked))
    return method in SAFE_METHODS


def is_workers_own(method: str, path: str) -> bool:
    """Whether only workers have a use for this request."""
    return _WORKERS_OWN.fullmatch(f"{method} {path}") is not None


def role_of_token(tokens: Mapping[Role, str], given: str) -> Role | None:
    """The role that a token opens. Every one is compared, so that the time taken tells nothing."""
    found = [role for role, token in tokens.items() if _same(given, token)]
    return found[0] if found else None


def role_of_cookie(tokens: Mapping[Role, str], cookies: str, host: str) -> Role | None:
    """The role that a Cookie header opens.

    A browser sends every cookie of this host, those of other ports' servers too, in whatever form they were set; a
    strict parser gives up at the first odd one. So ours is looked for, and the others are not read.
    """
    values, name = {role: cookie_value(token) for role, token in tokens.items()}, cookie_name(host)
    pairs = [part.strip().partition("=") for part in cookies.split(";")]
    found = [role for key, _, value in pairs if key == name and (role := role_of_token(values, value)) is not None]
    return found[0] if found else None


def cookie_name(host: str) -> str:
    """Cookies know no ports: two servers on one machine need two names."""
    try:
        return f"natlab-{urlsplit(f'//{host}').port or 80}"
    except ValueError:
        return "natlab-80"


def cookie_value(token: str) -> str:
    """What the browser keeps: it opens this server, but the token cannot be read back from it."""
    return hashlib.sha256(f"natlab cookie {token}".encode()).hexdigest()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _kept(path: Path) -> str:
    """The token in a file of mode 0600. A new one appears whole or not at all: the client may be waiting for it."""
    try:
        if not path.exists():
            fresh = path.with_name(f".{path.name}.new")
            fresh.unlink(missing_ok=True)
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
            fresh.rename(path)
        path.chmod(0o600)
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"{path} keeps a token, but it cannot be used ({error}); remove it, and it is made anew"
        ) from None
    if len(token) < 16 or not token.isprintable() or " " in token:
        raise StartError(f"{path} keeps a token, but holds none; remove it, and it is made anew")
    return token
