"""Who may talk to the server: checks before anything else looks at a request.

Launching a run is running code, so: the Host must be one of ours (DNS rebinding), what a page asks for must come
from our own (cross-site requests; a link to us may stand anywhere), bodies are JSON within bounds, and every request
but `/healthz` needs a token of a role that may make it. This is plain ASGI, so that streams pass through unbuffered.
"""

from __future__ import annotations

import logging
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import credentials
from server.credentials import SAFE_METHODS, Role
from server.errors import (
    ForbiddenError,
    MediaTypeError,
    ServerError,
    TooManyRequestsError,
    UnauthorizedError,
    WrongHostError,
    problem_of,
    problem_response,
    response_to,
)
from server.limits import Rate, bounded
from server.settings import Settings

log = logging.getLogger(__name__)

_OPEN = "/healthz"
_COOKIE_DAYS = 30
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "font-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_DOOR = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>natlab</title>
<style>:root { color-scheme: light dark } body { font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem;
margin: 15vh auto; padding: 0 1rem } code { font-size: 1.05em }</style></head>
<body><h1>This page needs a key</h1>
<p>Open the link that <code>natlab up</code> printed, or let <code>natlab link</code> print it again on the machine
that natlab runs on. This browser then stays let in for 30 days.</p>
<p>Came here by that link? Then <a href="">try once more</a>.</p></body>
</html>
"""


class Guard:
    """ASGI middleware that refuses what must not pass and sets the security headers on every answer."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._tokens = credentials.tokens_of(settings)
        self._any_host = bool(self._tokens) and "*" in settings.allowed_hosts
        self._hosts = {"127.0.0.1", "localhost", "::1", settings.host.strip("[]").lower(), *settings.allowed_hosts}
        self._changes = Rate(settings.changes_per_s, burst=5 * settings.changes_per_s)

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
            _note_tls(scope)
            answer = self._check(scope)
            if answer is None:
                receive = await bounded(scope, receive)
        except ServerError as error:
            answer = _refusal(scope, error)
        try:
            await (answer or self._app)(scope, receive, send_guarded)
        except Exception as error:  # a mistake of ours: its answer carries the headers, too
            if started:
                raise
            log.exception("%s %s failed", scope["method"], scope["path"])
            await response_to(scope, problem_of(error))(scope, receive, send_guarded)

    def _check(self, scope: Scope) -> Response | None:
        """Raise what is wrong with the request, or return an answer that needs no application."""
        headers = Headers(scope=scope)
        method, path = scope["method"], scope["path"]
        self._check_host(headers)
        _check_origin(headers)
        _check_site(method, headers)
        if method not in SAFE_METHODS:
            _check_media_type(headers)
        if self._tokens and path != _OPEN and (answer := self._check_role(scope, headers)) is not None:
            return answer
        if method not in SAFE_METHODS and not credentials.is_workers_own(method, path):
            self._changes.take(scope["client"][0] if scope.get("client") else "")
        return None

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if host_name(host) not in self._hosts and not self._any_host:
            raise WrongHostError(
                f"the Host header is {host[:80]!r}, which is not a name of this server; "
                "use 127.0.0.1, or list the name in NATLAB_ALLOWED_HOSTS"
            )

    def _check_role(self, scope: Scope, headers: Headers) -> Response | None:
        if b"token=" in scope["query_string"] and (answer := self._answer_to_link(scope, headers)) is not None:
            return answer
        scheme, _, given = headers.get("authorization", "").partition(" ")
        by_token = credentials.role_of_token(self._tokens, given.strip()) if scheme.lower() == "bearer" else None
        role = by_token or credentials.role_of_cookie(self._tokens, headers.get("cookie", ""), headers.get("host", ""))
        if role is None:
            raise UnauthorizedError(
                "this server needs its token; send it as `Authorization: Bearer` (the command line and the client read "
                "NATLAB_TOKEN, or NATLAB_HOME/token), or open the link that `natlab up` "
                "printed"
            )
        if not credentials.may(role, scope["method"], scope["path"], by_cookie=by_token is None):
            raise ForbiddenError(
                f"this is the {role.value}'s token, which does not open {scope['method']} {scope['path'][:80]}; "
                "use one that does"
            )
        return None

    def _answer_to_link(self, scope: Scope, headers: Headers) -> Response | None:
        """A link with a token becomes a cookie, and the token leaves the address; None where there is no such link."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in query if name == "token"), "")
        role = credentials.role_of_token(self._tokens, given)
        if role is None or role is Role.WORKER or scope["method"] != "GET":
            return None
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        answer = RedirectResponse(
            "/" + scope["path"].lstrip("/") + (f"?{rest}" if rest else ""),
            status_code=303,
            headers={"cache-control": "no-store"},
        )
        answer.set_cookie(
            credentials.cookie_name(headers.get("host", "")),
            credentials.cookie_value(self._tokens[role]),
            httponly=True,
            samesite="strict",
            secure=scope["scheme"] == "https",
            max_age=_COOKIE_DAYS * 86400,
        )
        return answer


def _note_tls(scope: Scope) -> None:
    """Take a proxy's word for how it was reached, which is only ever shown; for who called nobody's word is taken."""
    if Headers(scope=scope).get("x-forwarded-proto") == "https":
        scope["scheme"] = "https"


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _refusal(scope: Scope, error: ServerError) -> Response:
    """A problem document; a browser without a cookie gets a page that says how to come by one."""
    if isinstance(error, UnauthorizedError):
        if "text/html" in Headers(scope=scope).get("accept", ""):
            return HTMLResponse(_DOOR, error.status, headers={"cache-control": "no-store"})
        return problem_response(problem_of(error), {"www-authenticate": "Bearer"})
    if isinstance(error, TooManyRequestsError):
        return problem_response(problem_of(error), {"retry-after": str(error.retry_after_s)})
    return problem_response(problem_of(error))


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
            f"the Origin header is {origin[:80]!r}, but requests are taken from this server's own pages only; "
            "open the page by the address you call"
        )


def _check_site(method: str, headers: Headers) -> None:
    """A browser says whose page asks, also where it sends no Origin: links may come from anywhere, nothing else."""
    site = headers.get("sec-fetch-site", "none")
    followed = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    if site not in ("none", "same-origin") and not (method in SAFE_METHODS and followed):
        raise ForbiddenError(
            f"the Sec-Fetch-Site header is {site[:80]!r}, but requests are taken from this server's own pages only; "
            "open the address itself"
        )


def _check_media_type(headers: Headers) -> None:
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and media_type != "application/json":
        raise MediaTypeError(
            f"the Content-Type is {media_type[:80]!r}, but the API takes application/json only; send JSON"
        )
