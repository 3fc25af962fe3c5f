"""The OpenAPI document: what FastAPI makes of the endpoints, and what holds for all of them.

That is the refusals of the guard and the handlers, all as `application/problem+json`, and the two ways of
showing a token.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server.credentials import SAFE_METHODS

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_EVERYWHERE = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    403: "The token's role may not do this, or a change comes from another site.",
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
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            refusals = _EVERYWHERE | ({} if method.upper() in SAFE_METHODS else _OF_CHANGES)
            for status, description in refusals.items():
                own = operation["responses"].get(str(status), {}).get("description")
                operation["responses"][str(status)] = {"description": own or description, "content": _PROBLEM}
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    answer["content"] = _PROBLEM
            operation["security"] = [] if path in _OPEN else [{name: []} for name in _SCHEMES]
    made["components"]["schemas"].pop("HTTPValidationError", None)
    made["components"]["schemas"].pop("ValidationError", None)
    return made
