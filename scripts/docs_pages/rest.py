"""The list of REST operations, from the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from scripts.docs_pages.tables import code, table
from server import api, openapi
from server.api import health

_HEAD = """# REST operations

Every operation with its parameters and an example of its body, as the OpenAPI document has them. A running server shows
the same, with every answer and a button to try each, at `/api/docs`, and the document itself at `/api/v1/openapi.json`.
What holds for all of them (tokens, refusals, pages of listings, ETags, what is promised) is in
[the REST API](rest.md); the codes of refusals are in [troubleshooting](troubleshooting.md).
"""
_TITLES = {
    "": "The server itself",
    "experiments": "Experiments",
    "runs": "Runs",
    "metrics": "Metrics of several runs",
    "stream": "What changes, as it changes",
    "plan": "Plans",
    "presets": "Presets",
    "workers": "Workers",
    "gc": "Disk space",
}
_LONGEST = 900


def page() -> str:
    app = FastAPI(title="natlab")
    openapi.install(app)
    for router in (api.router, health.router):
        app.include_router(router)
    groups: dict[str, list[str]] = {}
    for path, methods in app.openapi()["paths"].items():
        group = path.removeprefix("/api/v1/").split("/")[0] if path.startswith("/api/v1/") else ""
        groups.setdefault(group, []).extend(_operation(path, verb, told) for verb, told in methods.items())
    order = sorted(groups, key=lambda group: list(_TITLES).index(group) if group in _TITLES else len(_TITLES))
    found = [f"## {_TITLES.get(group, group)}\n\n" + "\n".join(groups[group]) for group in order]
    return _HEAD + "\n" + "\n".join(found)


def _operation(path: str, verb: str, told: dict[str, Any]) -> str:
    about = (told.get("description") or told.get("summary") or "").strip()
    fine = [status for status in told["responses"] if int(status) < 400]
    parts = [f"### {code(f'{verb.upper()} {path}')}", about, f"Answers {', '.join(sorted(fine))}."]
    if rows := list(_parameters(told)):
        parts.append(table(["parameter", "in", "what it is"], rows).rstrip())
    if body := _body(told):
        parts.append(f"```json\n{body}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _parameters(told: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in told.get("parameters", []):
        about = one.get("description") or one.get("schema", {}).get("description") or ""
        example = f"such as {code(str(one['example']))}" if one.get("example") not in (None, "") else ""
        name = code(one["name"]) + ("" if one.get("required") else ", optional")
        yield name, one["in"], "; ".join(part for part in (about.rstrip("."), example) if part)


def _body(told: dict[str, Any]) -> str:
    """The example of the body, where it is short enough to help."""
    content = told.get("requestBody", {}).get("content", {}).get("application/json", {})
    if "example" not in content:
        return ""
    text = json.dumps(content["example"], indent=2, ensure_ascii=False)
    return text if len(text) <= _LONGEST else json.dumps(content["example"], ensure_ascii=False)
