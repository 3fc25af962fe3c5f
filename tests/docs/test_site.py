"""`make docs`: a site without warnings that loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import pages
from tests.e2e.support import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# What a browser fetches by itself, unlike the links that people follow.
_FETCHED = re.compile(
    r"<(?:script|img|source|iframe)\b[^>]*?\s(?:src|srcset)=\"([^\"]+)\"|<link\b[^>]*?\shref=\"([^\"]+)\""
)


def test_the_site_is_built_without_warnings_and_needs_no_network(tmp_path: Path) -> None:
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
