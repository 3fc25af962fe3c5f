"""The OpenAPI document: what FastAPI makes of the endpoints, and what holds for all of them.

That is the refusals of the guard and the handlers, all as `application/problem+json`, the two ways of
showing a token, ETags, and an example of every operation.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server.credentials import SAFE_METHODS
from server.examples import PARAMETERS, Example, as_json, examples

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_EVERYWHERE = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    403: "The token's role may not do this, or the request comes from another site.",
    404: "There is no such thing.",
    405: "This path does not take that method.",
    421: "The Host header names no known host.",
    422: "A value is wrong; `errors` says which.",
}
_OF_CHANGES = {
    408: "The body does not arrive.",
    409: "The state it is in does not allow that.",
    413: "The body is longer than 1 MiB.",
    415: "The body is not declared as JSON.",
    429: "Changes come too fast, or too many runs wait already.",
    503: "Something the server needs is away; nothing was stored.",
}
_ETAG = {
    "ETag": {
        "description": "Send it back as `If-None-Match`: while the answer is the same it is 304, and empty.",
        "schema": {"type": "string"},
    }
}
_STREAMED = {"text/event-stream", "application/x-tar"}
_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of the data folder, by role."},
}
_OPEN = {"/healthz"}


def install(app: FastAPI) -> None:
    """Make `app.openapi()` the whole document, made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    made["components"].setdefault("securitySchemes", {}).update(_SCHEMES)
    shown = examples()
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            refusals = _EVERYWHERE | ({} if method.upper() in SAFE_METHODS else _OF_CHANGES)
            for status, description in refusals.items():
                own = operation["responses"].get(str(status), {}).get("description")
                operation["responses"][str(status)] = {"description": own or description, "content": _PROBLEM}
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    answer["content"] = _PROBLEM
            _show(operation, shown.get(f"{method.upper()} {path}", Example()))
            operation["security"] = [] if path in _OPEN else [{name: []} for name in _SCHEMES]
    for path, methods in made["paths"].items():
        if path.startswith("/api/v1/") and "get" in methods:
            _offer_etag(methods["get"]["responses"])
    made["components"]["schemas"].pop("HTTPValidationError", None)
    made["components"]["schemas"].pop("ValidationError", None)
    return made


def _show(operation: dict[str, Any], example: Example) -> None:
    """Put an example beside each parameter, into the request's body, and into every answer that is no refusal."""
    for parameter in operation.get("parameters", []):
        known = {**PARAMETERS, **example.parameters}
        if parameter["name"] in known:
            parameter["example"] = known[parameter["name"]]
    if example.body is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example.body
    if example.answer is None:
        return
    for status, answer in operation["responses"].items():
        if int(status) < 300 and "content" in answer:
            answer["content"].setdefault(example.media_type, {})["example"] = as_json(example.answer)


def _offer_etag(answers: dict[str, Any]) -> None:
    """Every answer that is sent whole has one (`server.api.conditional`)."""
    if not _STREAMED & answers["200"].get("content", {}).keys():
        answers["200"]["headers"] = _ETAG
        answers["304"] = {"description": "What `If-None-Match` names is what there is.", "headers": _ETAG}
