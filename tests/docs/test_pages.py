"""The pages are what the code says, their links lead somewhere, and every script says whether a test runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.docs_pages import PAGES, made
from scripts.docs_pages.remedies import OF_APIS, OF_CALLERS, OF_RUNS, OF_STARTS
from tests.docs.pages import blocks, pages, read, without_code
from tests.e2e.support import REPOSITORY

_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
_CODES = (
    r"\bcode ?= ?\"(\w+)\"",  # an error's own
    r"Ending\(\s*\"(?:failed|lost|stopped|handed_back)\", \"(\w+)\"",  # how a worker says that a trainer ended
    r"_failure\(\"(\w+)\"",
    r"\"lost\", \"(\w+)\", why",
    r"_PROTOCOL_CODES = (\{.*\})",
    r"reason = \"(\w+)\" if ",
    r"reason = \"\w+\" if .* else \"(\w+)\"",
    r"_problem\(HTTPStatus\.\w+, \"(\w+)\"",
    r"_PROTOCOL_CODES\.get\(status, \"(\w+)\"\)",
)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_made_from_the_code_is_what_the_code_says(name: str) -> None:
    assert read(f"docs/{name}") == made(name), f"docs/{name} is out of date; run `make docs-pages`"


def test_every_error_code_has_a_remedy_and_every_remedy_a_code() -> None:
    found: set[str] = set()
    for package in ("nat_core", "server", "worker", "client"):
        for source in (REPOSITORY / package).rglob("*.py"):
            text = source.read_text(encoding="utf-8")
            for pattern in _CODES:
                for match in re.findall(pattern, text):
                    found |= set(re.findall(r"\"(\w+)\"", match)) or {match}
    told = OF_RUNS.keys() | OF_APIS.keys() | OF_STARTS.keys() | OF_CALLERS.keys()
    assert found - told == set(), "codes without a remedy in scripts/docs_pages/remedies.py"
    assert told - found == set(), "remedies in scripts/docs_pages/remedies.py for codes that there are not"


@pytest.mark.parametrize("page", pages())
def test_every_script_says_whether_a_test_runs_it(page: str) -> None:
    silent = [str(block) for block in blocks(page) if block.language in ("sh", "bash", "python") and not block.mark]
    assert silent == [], "put `<!-- runnable -->` or `<!-- not run: why -->` before it"
    assert [str(block) for block in blocks(page) if block.mark == "not run" and not block.about] == []


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_somewhere(page: str) -> None:
    broken = []
    for link in (one or other for one, other in _LINK.findall(without_code(page))):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as code hosts and the site make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_front_page_and_the_readme_lead_to_every_page() -> None:
    for name in {Path(page).name for page in pages() if page.startswith("docs/")} - {"index.md"}:
        assert f"]({name})" in read("docs/index.md"), f"docs/index.md does not lead to {name}"
        assert f"](docs/{name})" in read("README.md"), f"README.md does not lead to docs/{name}"
