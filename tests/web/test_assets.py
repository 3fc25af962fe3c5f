"""Static files: vendored ones unchanged, Plotly's compressed, the palette the same in Python and CSS."""

from __future__ import annotations

import hashlib
import re
from dataclasses import fields

import pytest
from fastapi.testclient import TestClient

from web.assets import FONT_URL, HTMX_URL, PLOTLY_URL, STATIC_DIR, plotly_script_path
from web.palette import DARK, LIGHT, Palette, faded


def test_vendored_files_are_those_of_the_readme() -> None:
    readme = (STATIC_DIR / "vendor" / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", readme, re.MULTILINE))
    found = {path.name for path in (STATIC_DIR / "vendor").iterdir() if path.suffix in (".js", ".woff2")}
    assert set(listed) == found == {url.rsplit("/", 1)[1] for url in (HTMX_URL, FONT_URL, PLOTLY_URL)}
    for name, digest in listed.items():
        assert hashlib.sha256((STATIC_DIR / "vendor" / name).read_bytes()).hexdigest() == digest


def test_plotlys_script_is_served_compressed_and_kept(client: TestClient) -> None:
    answer = client.get(PLOTLY_URL, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip" and "immutable" in answer.headers["cache-control"]
    assert answer.content == plotly_script_path().read_bytes()
    with client.stream("GET", PLOTLY_URL, headers={"Accept-Encoding": "gzip"}) as raw:
        assert len(b"".join(raw.iter_raw())) < 450_000
    plain = client.get(PLOTLY_URL, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.content == answer.content


def test_own_files_are_asked_for_anew_and_vendored_ones_kept(client: TestClient) -> None:
    assert client.get("/static/app.css").headers["cache-control"] == "no-cache"
    assert "immutable" in client.get(HTMX_URL).headers["cache-control"]
    etag = client.get("/static/js/page.js").headers["etag"]
    assert client.get("/static/js/page.js", headers={"If-None-Match": etag}).status_code == 304
    assert client.get("/static/../palette.py").status_code == 404
    assert client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


def css_colors(selector: str) -> dict[str, str]:
    css = (STATIC_DIR / "app.css").read_text(encoding="utf-8")
    block = css.split(selector + "{", 1)[1].split("}", 1)[0]
    return dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6})\b", block))


@pytest.mark.parametrize(("selector", "palette"), [(":root", LIGHT), (":root[data-theme=dark]", DARK)])
def test_figures_and_pages_have_the_same_colours(selector: str, palette: Palette) -> None:
    css = css_colors(selector)
    for field in fields(palette):
        if field.name not in ("cells", "on_bar"):
            assert css[field.name.replace("_", "-")] == getattr(palette, field.name), field.name
    assert tuple(css[f"c{n}"] for n in range(1, 9)) == palette.cells


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_and_marks_stand_out_enough(palette: Palette) -> None:
    for ink in (palette.ink, palette.ink_2, palette.ink_3):
        assert contrast(ink, palette.panel) >= 4.5
    for color in (*palette.cells, palette.good, palette.bad):
        assert contrast(color, palette.panel) >= 3.0
        assert contrast(palette.on_bar, color) >= 3.0


def test_colours_repeat_after_the_eighth_cell() -> None:
    assert LIGHT.cell(9) == LIGHT.cell(1)
    assert faded("#3d5afe", 0.14) == "rgba(61,90,254,0.14)"
