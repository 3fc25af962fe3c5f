"""Static files: everything a page needs comes from this host."""

from __future__ import annotations

import gzip
from collections.abc import MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

STATIC_DIR = Path(__file__).parent / "static"
PLOTLY_URL = "/static/vendor/plotly-basic-4.1.1.min.js"
HTMX_URL = "/static/vendor/htmx-2.0.11.min.js"
FONT_URL = "/static/vendor/inter-latin-5.3.0.woff2"
LAUNCH_SCRIPTS = tuple(f"/static/js/{path.name}" for path in sorted((STATIC_DIR / "js").glob("launch_*.js")))
"""The modules of the launch page, which import each other in a chain: named in its head they come at once."""
FOREVER = "public, max-age=31536000, immutable"


def mount(app: FastAPI) -> None:
    """Serve `web/static` at `/static`, Plotly's script in it compressed, once."""
    app.add_api_route(PLOTLY_URL, _plotly_script, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/favicon.ico", _icon, methods=["GET"], include_in_schema=False)
    app.mount("/static", _Static(directory=STATIC_DIR), name="static")


def plotly_script_path() -> Path:
    """Where Plotly's browser script lies."""
    return STATIC_DIR / "vendor" / PLOTLY_URL.rsplit("/", 1)[1]


@lru_cache(maxsize=1)
def _compressed_plotly() -> bytes:
    return gzip.compress(plotly_script_path().read_bytes(), compresslevel=6, mtime=0)


def _plotly_script(request: Request) -> Response:
    headers = {"Cache-Control": FOREVER, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(_compressed_plotly(), media_type="text/javascript", headers=headers)
    return FileResponse(plotly_script_path(), media_type="text/javascript", headers=headers)


def _icon() -> FileResponse:
    """For what asks for an icon without reading the page."""
    return FileResponse(STATIC_DIR / "icon.svg", media_type="image/svg+xml")


class _Static(StaticFiles):
    """Vendored files carry their version in the name and never change; our own are asked for anew each time."""

    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = FOREVER if path.startswith("vendor/") else "no-cache"
        return response
