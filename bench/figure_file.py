"""Figures into files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.io


def write_figure(drawn: dict[str, Any], path: Path) -> None:
    """Put a figure in Plotly's form into a file: `.html` (whole, without a network) or `.png`, as its name ends."""
    if path.suffix not in WRITERS:
        raise SystemExit(f"--figure {path} ends in {path.suffix!r}, which nothing here writes; use .html or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[path.suffix](drawn, path)


def _write_html(drawn: dict[str, Any], path: Path) -> None:
    path.write_text(plotly.io.to_html(drawn, include_plotlyjs=True, config={"displaylogo": False}))


def _write_png(drawn: dict[str, Any], path: Path) -> None:
    """A picture of the page, taken by Chromium."""
    from playwright.sync_api import sync_playwright  # only pictures need a browser

    layout = drawn["layout"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_path = Path(folder) / "figure.html"
        _write_html(drawn, page_path)
        browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": layout["width"] + 40, "height": layout["height"] + 40})
        page.goto(page_path.as_uri())
        page.locator(".main-svg").first.wait_for()
        page.locator(".svg-container").screenshot(path=str(path))
        browser.close()


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


WRITERS: dict[str, Callable[[dict[str, Any], Path], None]] = {".html": _write_html, ".png": _write_png}
