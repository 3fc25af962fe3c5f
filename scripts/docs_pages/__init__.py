"""Pages of the documentation that are made from the code: metrics, spec, REST operations, troubles by error code.

`python -m scripts.docs_pages` (or `make docs-pages`) writes them; a test says when one is no longer what the code says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scripts.docs_pages import metrics, rest, spec, troubles

FOLDER = Path(__file__).resolve().parents[2] / "docs"

PAGES: dict[str, Callable[[], str]] = {
    "metrics.md": metrics.page,
    "spec.md": spec.page,
    "rest-reference.md": rest.page,
    "troubleshooting.md": troubles.page,
}


def made(name: str) -> str:
    """What a page should hold now."""
    return f"<!-- Made by `make docs-pages` from the code; changes here are lost. -->\n\n{PAGES[name]().strip()}\n"
