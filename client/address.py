"""Where the server is and what opens it: from the environment, and from this machine's own data folder."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from client.errors import ClientError

DEFAULT_PORT = 8300


def default_url() -> str:
    """`NATLAB_URL`, else this machine at `NATLAB_PORT`."""
    return os.environ.get("NATLAB_URL") or f"http://127.0.0.1:{os.environ.get('NATLAB_PORT') or DEFAULT_PORT}"


def default_home() -> Path:
    """The data folder of this machine's server: `NATLAB_HOME`, else `.natlab`.

    Raises:
        ClientError: it lies in the home of nobody.
    """
    told = os.environ.get("NATLAB_HOME") or ".natlab"
    try:
        return Path(told).expanduser()
    except RuntimeError:
        raise ClientError(f"NATLAB_HOME is {told!r}, but there is no such user; write the folder out") from None


def default_token(url: str | None = None, home: Path | None = None) -> str | None:
    """`NATLAB_TOKEN`, else what stands in the file `NATLAB_TOKEN_FILE`, else this machine's own server's token.

    That one is for a server on loopback only: sent elsewhere it would be given away.

    Args:
        url: the server's address; the default one unless given.
        home: the server's data folder; `NATLAB_HOME` unless given.

    Raises:
        ClientError: when the file cannot be read, is empty or is no text, or holds what a header cannot carry.
    """
    token, path = os.environ.get("NATLAB_TOKEN"), os.environ.get("NATLAB_TOKEN_FILE")
    if not token and path:
        token = _token_in("NATLAB_TOKEN_FILE", path)
        if not token:
            raise ClientError(f"NATLAB_TOKEN_FILE is {path!r}, which is empty; write the token into it")
    if not token and is_loopback(url or default_url()):
        kept = (home or default_home()) / "token"
        token = _token_in("the server's own token file", str(kept)) if kept.exists() else None
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ClientError("NATLAB_TOKEN holds characters that a header cannot carry; use letters and digits")
    return token or None


def _token_in(name: str, path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError, RuntimeError) as error:  # RuntimeError: ~ of nobody
        raise ClientError(
            f"{name} is {path!r}, which cannot be read ({error}); correct the path or its permissions"
        ) from None


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, or no address at all
        return False


def check_url(url: str) -> None:
    """Raise `ClientError` unless this can be the address of a server."""
    try:
        parsed, told = httpx.URL(url), urlsplit(url)  # each finds what the other lets pass
        reason = "" if parsed.scheme in ("http", "https") and told.hostname else "it names no scheme, or no host"
    except (httpx.InvalidURL, ValueError) as error:
        reason = str(error)
    if reason:
        raise ClientError(
            f"the server's address is {url!r}, which is none ({reason}); write it as http://gpu-box:8300, in "
            "NATLAB_URL if it stands there"
        )
