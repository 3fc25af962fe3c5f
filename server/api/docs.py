"""`/api/docs`: Swagger UI from files of our own, since the page may load nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse

from server.errors import NotFoundError

router = APIRouter(prefix="/api/docs", include_in_schema=False)

_FOLDER = Path(__file__).parent.parent / "swagger"
_FILES = {
    "swagger-ui-bundle.js": ("swagger-ui-bundle.js.gz", "text/javascript"),
    "swagger-ui.css": ("swagger-ui.css.gz", "text/css"),
    "init.js": ("init.js", "text/javascript"),
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>natlab API</title>
<link rel="stylesheet" href="/api/docs/swagger-ui.css">
<script src="/api/docs/swagger-ui-bundle.js" defer></script>
<script src="/api/docs/init.js" defer></script>
</head>
<body><div id="swagger-ui"></div><noscript>The schema is at /api/v1/openapi.json.</noscript></body>
</html>
"""


@router.get("", response_class=HTMLResponse)
def page() -> str:
    return _PAGE


@router.get("/{name}")
def asset(name: str) -> FileResponse:
    if name not in _FILES:
        raise NotFoundError(f"/api/docs/{name[:80]} is no file of this page; open /api/docs")
    file, media_type = _FILES[name]
    headers = {"Cache-Control": "max-age=3600"}
    if file.endswith(".gz"):
        headers["Content-Encoding"] = "gzip"
    return FileResponse(_FOLDER / file, media_type=media_type, headers=headers)
