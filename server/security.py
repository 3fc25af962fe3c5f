"""Who may talk to the server: checks before anything else looks at a request.

Launching a run is running code, so: the Host must be one of ours (DNS rebinding), a change must come
from our own pages (cross-site requests), bodies are JSON of bounded size, and where a token is set
every request needs it. This is plain ASGI, so that streams pass through unbuffered.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import (
    ForbiddenError,
    MediaTypeError,
    ServerError,
    TooLargeError,
    UnauthorizedError,
    WrongHostError,
    problem_of,
    problem_response,
)
from server.settings import Settings

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024
COOKIE = "natlab_token"
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """ASGI middleware that refuses what must not pass and sets the security headers on every answer."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._token = settings.token
        self._any_host = settings.token is not None and "*" in settings.allowed_hosts
        self._hosts = {"127.0.0.1", "localhost", "::1", settings.host.strip("[]").lower(), *settings.allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            answer = self._check(scope)
            if answer is None:
                receive = await _bounded(scope, receive)
        except ServerError as error:
            headers = {"www-authenticate": "Bearer"} if isinstance(error, UnauthorizedError) else None
            answer = problem_response(problem_of(error), headers)
        try:
            await (answer or self._app)(scope, receive, send_guarded)
        except Exception as error:  # a mistake of ours: its answer carries the headers, too
            if started:
                raise
            log.exception("%s %s failed", scope["method"], scope["path"])
            await problem_response(problem_of(error))(scope, receive, send_guarded)

    def _check(self, scope: Scope) -> Response | None:
        """Raise what is wrong with the request, or return an answer that needs no application."""
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["method"] not in _SAFE_METHODS:
            _check_origin(headers)
            _check_media_type(headers)
        if self._token is not None and scope["path"] != "/healthz":
            return self._check_token(scope, headers, self._token)
        return None

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if host_name(host) not in self._hosts and not self._any_host:
            raise WrongHostError(
                f"the Host header is {host[:80]!r}, which is not a name of this server; "
                "use 127.0.0.1, or list the name in NATLAB_ALLOWED_HOSTS"
            )

    def _check_token(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), token):
            return None
        if _same(_cookie(headers), cookie_value(token)):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] == "GET" and any(name == "token" and _same(value, token) for name, value in query):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            answer = RedirectResponse("/" + scope["path"].lstrip("/") + (f"?{rest}" if rest else ""), status_code=303)
            answer.set_cookie(COOKIE, cookie_value(token), httponly=True, samesite="strict", max_age=30 * 86400)
            return answer
        raise UnauthorizedError(
            "this server needs its token; send it as `Authorization: Bearer`, or open the link that `natlab up` printed"
        )


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def cookie_value(token: str) -> str:
    """What the browser keeps: it opens this server, but the token cannot be read back from it."""
    return hashlib.sha256(f"natlab cookie {token}".encode()).hexdigest()


def _check_origin(headers: Headers) -> None:
    origin = headers.get("origin")
    if origin is None:  # no browser sends a cross-site change without it
        return
    try:
        netloc = urlsplit(origin).netloc.lower()
    except ValueError:
        netloc = ""
    if not netloc or netloc != headers.get("host", "").lower():
        raise ForbiddenError(
            f"the Origin header is {origin[:80]!r}, but changes are taken from this server's own pages only; "
            "open the page by the address you call"
        )


def _check_media_type(headers: Headers) -> None:
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and media_type != "application/json":
        raise MediaTypeError(
            f"the Content-Type is {media_type[:80]!r}, but the API takes application/json only; send JSON"
        )


async def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Read the body up to the cap, whatever its declared length, and hand it on whole."""
    if scope["method"] in _SAFE_METHODS:
        return receive
    too_large = TooLargeError(f"the request body is longer than {MAX_BODY_BYTES} bytes; send a smaller one")
    length = Headers(scope=scope).get("content-length", "0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise too_large
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return receive
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
