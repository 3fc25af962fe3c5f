"""Every page in light and dark, wide and on a phone: no serious violation by axe-core, no unwanted motion."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.web.browsing import Site
from web.run_pages import TABS

pytestmark = pytest.mark.slow

VENDOR = Path(__file__).parent / "vendor"
AXE = VENDOR / "axe-4.14.1.min.js"
RUN = "() => axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)"


def paths(site: Site) -> list[str]:
    run, waiting = site.finished.runs[1].id, site.waiting.runs[0].id
    everything = ",".join(run.id for run in site.finished.runs)
    tabs = [f"/runs/{run}"] + [f"/runs/{run}/{tab}" for tab in TABS if tab != "overview"]
    return [
        "/experiments",
        "/experiments?archived=true",
        f"/experiments/{site.finished.id}",
        f"/experiments/{site.finished.id}?table=runs&sort=-seed&q=rpc",
        f"/experiments/{site.waiting.id}",
        f"/compare?runs={everything}",
        "/experiments/new",
        f"/experiments/new?clone={site.finished.id}",
        *tabs,
        f"/runs/{run}/tokens?q=nowhere",
        f"/runs/{waiting}",
        f"/runs/{waiting}/tokens",
        "/workers",
        "/runs/none",
        "/nowhere",
    ]


def serious(violations: list[dict[str, Any]]) -> list[str]:
    """Each as one line: the rule, where it is broken, and how."""
    return [
        f"{found['id']}: {node['html'][:120]}: {node['any'][0]['message'] if node['any'] else found['help']}"
        for found in violations
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


def violations(page: Page) -> list[str]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    return serious(page.evaluate(RUN))


def test_axe_is_the_file_of_its_readme() -> None:
    readme = (VENDOR / "README.md").read_text(encoding="utf-8")
    listed = re.search(rf"^\| {re.escape(AXE.name)} \|.*\| ([0-9a-f]{{64}}) \|$", readme, re.MULTILINE)
    assert listed is not None and hashlib.sha256(AXE.read_bytes()).hexdigest() == listed[1]


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
def test_no_page_has_a_serious_violation(site: Site, page: Page, theme: str, width: int) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light", reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 900})
    broken = {}
    for path in paths(site):
        page.goto(site.url + path)
        for details in page.locator("main details:not(.menu)").all():
            details.evaluate("element => { element.open = true; }")
        if found := violations(page):
            broken[path] = found
    assert broken == {}


def test_dialogs_and_menus_have_no_serious_violation(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator("summary", has_text="Columns").click()
    assert violations(page) == []
    page.locator("summary[aria-label='More actions']").click()
    page.get_by_role("button", name="Delete").click()
    assert violations(page) == []
    page.get_by_role("button", name="Cancel").click()


def test_messages_in_the_form_are_reachable_and_named(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    page.locator('[data-pointer="/base/steps"]').fill("many")
    page.get_by_test_id("launch-submit").click()
    expect(page.locator('[data-fault="/base/steps"]')).to_be_visible()
    assert violations(page) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_kinds_and_rows_of_the_form_have_no_serious_violation(site: Site, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("plan")).not_to_be_empty()
    page.get_by_label("Kind of data").select_option("huggingface")
    page.get_by_label("Kind of reward").select_option("sum")
    page.get_by_role("button", name="Add a part").click()
    page.get_by_role("button", name="Add a set").click()
    page.locator('[data-list="/base/evaluation/sets"]').get_by_label("Reward", exact=True).select_option("sum")
    expect(page.locator("[data-item]")).to_have_count(4)  # two parts, one set, and the part of its reward
    page.get_by_test_id("launch-submit").click()
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


REACHED = """() => {
  const controls = "a[href], button, input, select, textarea, summary, [tabindex='0']";
  const wanted = [...document.querySelectorAll(controls)].filter(
    control => control.checkVisibility() && !control.disabled && control.tabIndex >= 0
      && (control.type !== "radio" || control.checked) && !control.closest("[inert]"));
  window.wanted = new Set(wanted);
  document.addEventListener("focusin", ({ target }) => window.wanted.delete(target));
  return wanted.length;
}"""
LEFT = "[...window.wanted].filter(control => control.checkVisibility()).map(control => control.outerHTML.slice(0, 120))"


def test_every_control_is_reached_by_the_tab_key(site: Site, page: Page) -> None:
    run = site.finished.runs[1].id
    missed: dict[str, list[str]] = {}
    for path in (
        "/experiments",
        f"/experiments/{site.finished.id}",
        "/experiments/new",
        f"/runs/{run}",
        f"/runs/{run}/tokens",
        "/workers",
    ):
        page.goto(site.url + path)
        for details in page.locator("main details:not(.menu)").all():
            details.evaluate("element => { element.open = true; }")
        if path.endswith("new"):
            page.get_by_role("button", name="Add a set").click()
            expect(page.get_by_label("Name", exact=True)).to_be_focused()
            page.locator("body").evaluate("() => document.activeElement.blur()")
        # Charts that come into view bring controls of their own, or turn out empty and take theirs away.
        for _ in range(2 * page.evaluate(REACHED)):
            page.keyboard.press("Tab")
            if not (left := page.evaluate(LEFT)):
                break
        missed[path] = left
    assert not any(missed.values()), missed


def test_a_menu_is_walked_by_the_tab_key_and_closes_behind_one(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    expect(page.locator("#live")).to_have_text("live")
    summary = page.locator("summary", has_text="Export")
    entries = page.locator("details.menu", has=summary).locator("div > a")
    summary.focus()
    page.keyboard.press("Enter")
    for entry in entries.all():
        page.keyboard.press("Tab")
        expect(entry).to_be_focused()
    page.keyboard.press("Tab")
    expect(entries.first).to_be_hidden()


def test_no_field_in_focus_is_covered_by_the_bar_that_launches(site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 600})
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("launch-submit")).to_be_enabled()
    page.locator('[data-pointer="/name"]').focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        covered = page.evaluate(
            "(at => { const bar = document.querySelector('.launch-bar'); return !bar.contains(at) && "
            "at.getBoundingClientRect().bottom > bar.getBoundingClientRect().top; })(document.activeElement)"
        )
        assert not covered, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")


def test_nothing_moves_where_motion_is_not_liked(site: Site, page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter(element => (style => style.transitionDuration !== '0s' || "
        "style.animationName !== 'none')(getComputedStyle(element))).map(element => element.outerHTML.slice(0, 80))"
    )
    assert moving == []
