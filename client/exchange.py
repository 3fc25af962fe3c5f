"""What is said to the server and in what order, without saying how: the same for the blocking and the async client.

An exchange is a generator. It yields what is to be done next, a `Request` or a `Pause` (and, where it gives many
things, an `Item` for each), is sent what came of it, and returns its answer. `Play` acts one out step by step; only
the doing itself, sending and sleeping, is different in `client.api` and `client.aio`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from client.errors import ApiError, ClientError, ServerUnreachable
from nat_core.records import Problem
from nat_core.version import __version__

T = TypeVar("T")

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
_LONGEST_RETRY_AFTER_S = 30.0
_SAFE_METHODS = {"GET", "HEAD", "PUT"}
# The request did not leave this machine.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# No second try would fare better.
_HOPELESS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL)


@dataclass(frozen=True)
class Request:
    """One request. `patience_s`: how long to go on trying when the server is away, beyond the usual retries."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    patience_s: float = 0.0
    once: bool = False

    @property
    def may_be_sent_twice(self) -> bool:
        """Whether the server does the same once, however often it hears of it."""
        return self.method in _SAFE_METHODS or "Idempotency-Key" in self.headers

    def for_httpx(self) -> dict[str, Any]:
        """Arguments of `httpx.Client.request`."""
        arguments: dict[str, Any] = {"method": self.method, "url": self.path, "headers": dict(self.headers)}
        arguments["params"] = {key: value for key, value in self.params.items() if value is not None}
        if self.json is not None:
            arguments["json"] = self.json
        if self.timeout_s is not None:
            arguments["timeout"] = self.timeout_s
        return arguments


@dataclass(frozen=True)
class Pause:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True)
class Item(Generic[T]):
    """One of many things that an exchange gives."""

    value: T


Exchange = Generator[Request | Pause, Any, T]
Stream = Generator[Request | Pause | Item[T], Any, None]


class Play:
    """An exchange being acted out: do what `next` gives, then `answer` or `fail`, until it gives None."""

    def __init__(self, exchange: Generator[Any, Any, Any]) -> None:
        self._exchange = exchange
        self._answer: Any = None
        self._error: ClientError | None = None
        self.result: Any = None

    def next(self) -> Request | Pause | Item[Any] | None:
        """What to do next; None at the end, when `result` holds the answer."""
        error, self._error = self._error, None
        answer, self._answer = self._answer, None
        try:
            step: Request | Pause | Item[Any]
            step = self._exchange.send(answer) if error is None else self._exchange.throw(error)
        except StopIteration as end:
            self.result = end.value
            return None
        return step

    def answer(self, answer: Any) -> None:
        self._answer = answer

    def fail(self, error: ClientError) -> None:
        """The exchange may know what to do about it; if not, `next` raises it."""
        self._error = error


def ask(answer: type[T], request: Request) -> Exchange[T]:
    """Send one request and read its answer as a type.

    Raises:
        ServerUnreachable: when what answers is no natlab server.
    """
    response: httpx.Response = yield request
    try:
        return TypeAdapter(answer).validate_json(response.content)
    except ValidationError as error:
        url = response.request.url
        raise ServerUnreachable(
            f"what answers at {url.scheme}://{url.netloc.decode()} is no natlab server of version {__version__} "
            f"({request.method} {request.path}: {error.error_count()} fields do not fit); check NATLAB_URL"
        ) from error


class Tries:
    """How often one request is tried, and what is said when that was in vain.

    What surely did nothing is tried again: a connection that was not made, 429 with a time to wait, 503. What may have
    arrived, a lost answer or a proxy's error, is tried again only where a second time does no harm.
    """

    def __init__(self, request: Request, url: str, retries: int) -> None:
        self._request = request
        self._url = url
        self._left = 0 if request.once else retries
        self._until: float | None = None  # counted from the first failure
        self._pause = _FIRST_PAUSE_S

    def after(self, outcome: httpx.Response | Exception) -> httpx.Response | float:
        """The answer when it is good, else the seconds to wait before the next try.

        Raises:
            ApiError: the server refused, and would again.
            ServerUnreachable: nothing answered, and the tries are spent.
        """
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return outcome
        if self._until is None:
            self._until = time.monotonic() + self._request.patience_s
        if not self._is_worth_it(outcome) or (self._left <= 0 and time.monotonic() >= self._until):
            raise _failure(outcome, self._url)
        self._left -= 1
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE_S)
        # Many clients of one server that comes back should not all call at the same moment.
        return _retry_after(outcome) or pause * random.uniform(0.5, 1.0)

    def _is_worth_it(self, outcome: httpx.Response | Exception) -> bool:
        if isinstance(outcome, httpx.Response):
            if outcome.status_code == 429:  # a full queue names no time: it is not soon over
                return _retry_after(outcome) is not None
            if outcome.status_code == 503:
                return True
            return outcome.status_code in (502, 504) and self._request.may_be_sent_twice
        if isinstance(outcome, _HOPELESS):
            return False
        return isinstance(outcome, _NEVER_SENT) or self._request.may_be_sent_twice


def _retry_after(outcome: httpx.Response | Exception) -> float | None:
    told = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx.Response) else ""
    return min(float(told), _LONGEST_RETRY_AFTER_S) if told.isdecimal() else None


def _failure(outcome: httpx.Response | Exception, url: str) -> ClientError:
    if isinstance(outcome, httpx.Response):
        return ApiError(problem_of(outcome))
    reason = str(outcome) or type(outcome).__name__
    return ServerUnreachable(
        f"no natlab server answers at {url} ({reason}); start one with `natlab up` or set NATLAB_URL"
    )


def problem_of(response: httpx.Response) -> Problem:
    """The problem document of an answer, or one made from its status when a proxy answered instead."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        asked = f"{response.request.method} {response.request.url}"
        detail = f"{asked} was answered with {response.status_code} {response.reason_phrase}"
        return Problem(title=response.reason_phrase, status=response.status_code, detail=detail, code="http_error")
