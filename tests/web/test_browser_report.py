"""The report: one file that opens in a browser without a server, with the page's figures in it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.web.browsing import HOSTILE, Site
from tests.web.test_browser_accessibility import violations

pytestmark = pytest.mark.slow


@pytest.fixture
def report(site: Site, tmp_path: Path) -> Path:
    answer = httpx.get(f"{site.url}/api/v1/experiments/{site.finished.id}/report", timeout=60)
    assert answer.headers["content-disposition"] == f'attachment; filename="{site.finished.id}-report.html"'
    path = tmp_path / "report.html"
    path.write_text(answer.text, encoding="utf-8")
    return path


def test_a_report_opens_alone_and_draws_what_the_page_draws(site: Site, page: Page, report: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    expect(page.locator("h1")).to_have_text(HOSTILE)
    expect(page.get_by_test_id("verdict")).to_contain_text(site.store.comparison(site.finished.id).headline)
    chart = page.locator('[data-chart="tradeoff-share"]')
    expect(chart.locator("svg.main-svg").first).to_be_visible()
    shown = "element => element.data.map(trace => [trace.name, trace.x, trace.y])"
    drawn = chart.evaluate(shown)
    reward = page.locator('[data-chart="reward"]')
    reward.scroll_into_view_if_needed()
    expect(reward.locator("svg.main-svg").first).to_be_visible()
    expect(page.get_by_test_id("report-table")).to_have_count(2)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    path = f"{site.url}/experiments/{site.finished.id}/figures.json?names=tradeoff"
    figure = httpx.get(path).json()["figures"]["tradeoff"]["figure"]
    assert drawn == [[trace.get("name"), trace["x"], trace["y"]] for trace in figure["data"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_report_follows_the_reader_s_theme_and_is_accessible(page: Page, report: Path, theme: str) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    page.goto(report.as_uri())
    expect(page.locator("html")).to_have_attribute("data-theme", theme)
    for group in page.locator("details.group").all():
        group.evaluate("element => { element.open = true; }")
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 390")  # charts are resized a moment later


def test_a_report_is_printed_whole_and_light(page: Page, report: Path) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(report.as_uri())
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    folded = page.locator("details.group:not([open])")
    before = folded.count()
    assert before > 2
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(folded).to_have_count(0)
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    expect(page.locator("[data-chart]:not(:has(svg.main-svg))")).to_have_count(0)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(folded).to_have_count(before)
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_an_experiment_without_values_makes_a_report_that_says_so(site: Site, page: Page, tmp_path: Path) -> None:
    path = tmp_path / "waiting.html"
    path.write_text(httpx.get(f"{site.url}/api/v1/experiments/{site.waiting.id}/report").text, encoding="utf-8")
    page.goto(path.as_uri())
    expect(page.get_by_test_id("verdict")).to_contain_text("No answer yet.")
    expect(page.locator("[data-chart]")).to_have_count(0)
