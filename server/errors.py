"""Errors of the server, and the one place where every error becomes an HTTP answer.

NatlabError
└── ServerError
    ├── SettingsError           an environment variable is wrong; the server does not start
    ├── StartError              something the server needs at start is missing
    ├── BadJsonError            the body is no JSON                                   400
    ├── UnauthorizedError       the token is missing or wrong                         401
    ├── ForbiddenError          the role may not, or another site's page asks         403
    ├── NotFoundError           no such experiment, run, worker or page               404
    ├── ConflictError           the state does not allow it                           409
    │   ├── IllegalTransitionError
    │   ├── NotFinishedError    it is still queued or running
    │   ├── StaleAttemptError   the caller's attempt is over, or another process's
    │   └── WorkerTakenError    another data folder's worker has this name
    ├── SlowBodyError           the body does not arrive                              408
    ├── TooLargeError           the body is too long                                  413
    ├── MediaTypeError          the body is not declared as JSON                      415
    ├── WrongHostError          the Host header names no known host                   421
    ├── BadQueryError           a query parameter is wrong                            422
    ├── KeyReusedError          an Idempotency-Key names another launch               422
    ├── TooManyRequestsError    changes come too fast                                 429
    ├── QueueFullError          too many runs wait already                            429
    ├── BusyError               too many live streams are open, or too many write     503
    ├── NotReadyError           a part of the server does not run                     503
    └── BrokerUnavailableError  Redis cannot be reached                               503
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from nat_core.errors import NatlabError, SpecError, spec_error_from_entries
from nat_core.records import Problem
from web.pages import error_page


class ServerError(NatlabError):
    """Base of what the server raises on purpose; `status` is its HTTP status."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR


class SettingsError(ServerError):
    code = "settings"


class StartError(ServerError):
    code = "start"


class BadJsonError(ServerError):
    code = "bad_json"
    status = HTTPStatus.BAD_REQUEST


class UnauthorizedError(ServerError):
    code = "unauthorized"
    status = HTTPStatus.UNAUTHORIZED


class ForbiddenError(ServerError):
    code = "forbidden"
    status = HTTPStatus.FORBIDDEN


class NotFoundError(ServerError):
    code = "not_found"
    status = HTTPStatus.NOT_FOUND


class ConflictError(ServerError):
    code = "conflict"
    status = HTTPStatus.CONFLICT


class IllegalTransitionError(ConflictError):
    code = "illegal_transition"


class NotFinishedError(ConflictError):
    code = "not_finished"


class StaleAttemptError(ConflictError):
    code = "stale_attempt"


class WorkerTakenError(ConflictError):
    code = "worker_taken"


class SlowBodyError(ServerError):
    code = "slow_body"
    status = HTTPStatus.REQUEST_TIMEOUT


class TooLargeError(ServerError):
    code = "too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class MediaTypeError(ServerError):
    code = "media_type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class WrongHostError(ServerError):
    code = "wrong_host"
    status = HTTPStatus.MISDIRECTED_REQUEST


class BadQueryError(ServerError):
    code = "bad_query"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class KeyReusedError(ServerError):
    code = "key_reused"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class TooManyRequestsError(ServerError):
    code = "too_many_requests"
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFullError(ServerError):
    code = "queue_full"
    status = HTTPStatus.TOO_MANY_REQUESTS


class BusyError(ServerError):
    code = "busy"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class NotReadyError(ServerError):
    code = "not_ready"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class BrokerUnavailableError(ServerError):
    code = "broker_unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE


FORESEEN = (NatlabError, RequestValidationError, HTTPException)
_PROTOCOL_CODES = {404: "not_found", 405: "method_not_allowed", 400: "bad_json"}


def problem_of(error: Exception) -> Problem:
    """The problem document of any error; an unforeseen one tells nothing but that it happened."""
    if isinstance(error, SpecError):
        faults = [{"pointer": fault.pointer, "detail": fault.detail} for fault in error.faults]
        return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, error.code, error.message, faults)
    if isinstance(error, ServerError):
        return _problem(error.status, error.code, error.message)
    if isinstance(error, RequestValidationError):
        return _problem_of_validation(error.errors())
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return _problem(status, _PROTOCOL_CODES.get(status, "http"), str(error.detail))
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the server made a mistake; its log says more")


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        problem.model_dump_json(),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=dict(headers) if headers else None,
    )


def page_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The same for people."""
    told = {**(headers or {}), "cache-control": "no-store"}
    return HTMLResponse(error_page(problem), status_code=problem.status, headers=told)


def response_to(scope: Scope, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A page for a browser that somebody sent to an address outside of the API, a problem document otherwise."""
    looked_at = scope["method"] in ("GET", "HEAD") and not scope["path"].startswith("/api/")
    if not (looked_at and "text/html" in Headers(scope=scope).get("accept", "")):
        return problem_response(problem, headers)
    if problem.detail == problem.title:  # the router's own words
        problem = problem.model_copy(update={"detail": f"there is nothing to see at {scope['path'][:80]}"})
    return page_response(problem, headers)


def install(app: FastAPI) -> None:
    """Answer every foreseen error of this application; the guard answers the others."""

    async def handle(request: Request, error: Exception) -> Response:
        headers = error.headers if isinstance(error, HTTPException) else None
        if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # Where a path has several routes, the router names the first one's methods only.
            methods = _methods_of(app, request.url.path)
            headers = {"allow": ", ".join(methods)} if methods else headers
        return response_to(request.scope, problem_of(error), headers)

    for kind in FORESEEN:
        app.add_exception_handler(kind, handle)


def _methods_of(app: FastAPI, path: str) -> list[str]:
    """The methods that a documented path takes; a path without parameters comes before one that it would fit."""
    for template, operations in sorted(app.openapi()["paths"].items(), key=lambda item: "{" in item[0]):
        if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", template), path):
            return [method.upper() for method in operations]
    return []


def _problem_of_validation(entries: Sequence[Any]) -> Problem:
    first = entries[0]
    if first["type"] == "json_invalid":
        reason = (first.get("ctx") or {}).get("error", "")
        return problem_of(
            BadJsonError(f"the request body is no JSON ({reason} at character {first['loc'][-1]}); fix it")
        )
    place = first["loc"][0]
    error = spec_error_from_entries(entries, "request body" if place == "body" else f"{place} parameters", skip=1)
    problem = problem_of(error)
    return problem if place == "body" else problem.model_copy(update={"code": BadQueryError.code})


def _problem(status: HTTPStatus, code: str, detail: str, errors: Sequence[dict[str, str]] = ()) -> Problem:
    return Problem(title=status.phrase, status=int(status), detail=detail, code=code, errors=list(errors))
