"""`make docs`: a site without warnings that loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.docs.pages import pages
from tests.e2e.support import REPOSITORY
from tests.web.browsing import browser

__all__ = ["browser"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# What a browser fetches by itself, unlike the links that people follow.
_FETCHED = re.compile(
    r"<(?:script|img|source|iframe)\b[^>]*?\s(?:src|srcset)=\"([^\"]+)\"|<link\b[^>]*?\shref=\"([^\"]+)\""
)


def test_the_site_is_built_without_warnings_and_needs_no_network(tmp_path: Path, browser: Browser) -> None:
    done = subprocess.run(
        ["scripts/docs.sh", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.strip() == ""
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    wanted = {Path(page).name.replace(".md", ".html") for page in pages() if page.startswith("docs/")}
    assert wanted <= made
    for page in sorted(wanted):
        text = (tmp_path / page).read_text(encoding="utf-8")
        fetched = [one or other for one, other in _FETCHED.findall(text)]
        assert [url for url in fetched if re.match(r"(https?:)?//", url)] == [], page
        missing = [url for url in fetched if not (tmp_path / re.sub(r"[?#].*", "", url)).exists()]
        assert missing == [], page
    styles = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(?:https?:)?//", styles) == []
    method = (tmp_path / "method.html").read_text(encoding="utf-8")
    assert method.count("<math") > 30 and "$$" not in method
    assert os.listdir(tmp_path / "images")
    for name in ("index", "start"):
        assert_pictures_follow_the_theme(browser, tmp_path / f"{name}.html")


def assert_pictures_follow_the_theme(browser: Browser, page: Path) -> None:
    """Of each pair of pictures the one shows that fits what the reader chose, whatever the system's theme is."""
    shown = browser.new_page(color_scheme="dark")
    shown.goto(page.as_uri())
    for theme in ("light", "dark"):
        shown.evaluate("theme => { document.body.dataset.theme = theme }", theme)
        images = shown.locator("article .picture img").all()
        visible = [image for image in images if image.is_visible()]
        assert len(images) == 2 * len(visible) > 0
        for image in visible:
            assert f"-{theme}.png" in str(image.get_attribute("src"))
            image.scroll_into_view_if_needed()
            image.evaluate("image => image.decode()")  # rejects what cannot be loaded
    shown.close()
