"""The comparison's table in a real Chromium: sorted, filtered, chosen and compared by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.web.browsing import Site, drawn

pytestmark = pytest.mark.slow


def labels(page: Page) -> list[str]:
    return [text.strip().split(" ")[0] for text in page.locator("#table tbody th").all_inner_texts()]


def test_the_view_of_the_table_is_in_the_address_and_comes_back(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    page.evaluate("window.sameDocument = true")
    page.get_by_role("link", name="Peak memory GiB").click()
    expect(page.locator("#table th[aria-sort=ascending]")).to_have_text("Peak memory GiB")
    assert labels(page) == ["full", "truncate", "rpc"]  # the baseline stays above
    expect(page.locator("#sort-peak_memory_gib")).to_be_focused()
    page.locator("#columns > summary").click()
    page.get_by_label("Memory saved").check()
    expect(page.locator("#table thead")).to_contain_text("Memory saved")
    page.get_by_label("Step s", exact=True).uncheck()
    expect(page.locator("#sort-step_s")).to_have_count(0)
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("trunc")
    expect(page.locator("#table .filtered")).to_contain_text("1 row left out")
    assert labels(page) == ["full", "truncate"]
    assert page.evaluate("window.sameDocument") is True

    # The same address in another tab shows the same; what a run reports meanwhile does not undo it.
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator("#filter")).to_have_value("trunc")
    assert labels(other) == ["full", "truncate"]
    expect(other.locator("#table thead")).to_contain_text("Memory saved")
    other.evaluate("document.body.dispatchEvent(new CustomEvent('natlab:refresh'))")
    other.get_by_role("link", name="Show all").click()
    expect(other.locator("#filter")).to_have_value("")
    expect(other.locator("#table tbody tr")).to_have_count(3)
    assert "q=" not in other.url and "sort=peak_memory_gib" in other.url


def test_rows_are_walked_selected_and_compared_by_keyboard(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}?table=runs")
    drawn(page, "tradeoff")
    page.keyboard.press("c")
    expect(page.locator("#toast")).to_have_text("Select two rows or more to compare them.")
    for key in "jjxjx":
        page.keyboard.press(key)
    expect(page.locator("#compare-selected")).to_have_text(re.compile("Compare 2"))
    expect(page.locator("#table tbody tr").nth(2).locator("[data-select]")).to_be_focused()
    assert f"sel={site.finished.runs[1].id},{site.finished.runs[2].id}" in page.url
    page.reload()
    expect(page.locator("#compare-selected")).to_have_text(re.compile("Compare 2"))
    page.keyboard.press("c")
    page.wait_for_url(re.compile("/compare"))
    expect(page.locator("h1")).to_have_text("Comparison of 2 configurations")
    expect(page.get_by_test_id("diff-table").locator("tbody tr").first).to_have_text(
        re.compile(r"budget.selector\s*rpc\s*truncate")
    )
    drawn(page, "reward")
    page.wait_for_load_state("load")
    page.keyboard.press("j")
    page.keyboard.press("o")
    page.wait_for_url(f"{site.url}/runs/{site.finished.runs[1].id}")


def test_a_budget_leads_to_the_runs_of_its_seeds(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}?cost=memory")
    drawn(page, "tradeoff")
    page.locator("#table").get_by_role("link", name="rpc").click()
    expect(page.get_by_test_id("runs-table").locator("tbody tr")).to_have_count(2)
    expect(page.locator("#filter")).to_have_value("rpc · linear · ½")
    assert labels(page) == ["rpc", "rpc"] and "cost=memory" in page.url
    page.reload()
    expect(page.get_by_test_id("runs-table").locator("tbody tr")).to_have_count(2)


def test_help_lists_the_keys_and_keys_rest_while_one_types(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    drawn(page, "tradeoff")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("/")
    page.keyboard.type("jx?")
    expect(page.locator("#filter")).to_have_value("jx?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("#filter")).not_to_be_focused()
    page.get_by_role("button", name="Keyboard shortcuts").click()
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()


def test_experiments_are_searched_walked_and_opened_by_keyboard(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments")
    rows = page.get_by_test_id("experiments-table").locator("tbody tr")
    expect(page.locator("#live")).to_have_text("live")
    page.keyboard.press("/")
    page.keyboard.type("waiting")
    expect(rows).to_have_count(1)
    assert "q=waiting" in page.url
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(rows.first.locator("a").first).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(f"{site.url}/experiments/{site.waiting.id}")
    page.go_back()
    expect(page.locator("#filter")).to_have_value("waiting")
    expect(rows).to_have_count(1)
    page.locator("#filter").fill("nowhere")
    expect(page.get_by_test_id("none-found")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(rows.first).to_be_visible()
    expect(page.locator("#filter")).to_have_value("")


def test_experiments_are_searched_from_every_page(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/workers")
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("waiting")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{site.url}/experiments?q=waiting")
    expect(page.get_by_test_id("experiments-table").locator("tbody tr")).to_have_count(1)
    expect(page.locator("#find")).to_have_count(0)  # its own search says the same

    # Where a page has a search of its own, the key is for that one.
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    page.keyboard.press("/")
    expect(page.locator("#filter")).to_be_focused()


def test_the_link_to_a_view_is_copied(site: Site, page: Page) -> None:
    address = f"{site.url}/experiments/{site.finished.id}?table=runs&sort=-seed&x=tokens_selected"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for path in (address, f"{site.url}/runs/{site.finished.runs[0].id}/logs?q=step"):
        page.goto(path)
        page.locator("#share").click()
        expect(page.locator("#share")).to_have_text("Link copied")
        assert page.evaluate("navigator.clipboard.readText()") == path
        expect(page.locator("#share")).to_have_text("Share")

    # Where the browser lets no page copy, it says where the link is.
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not here')); }")
    page.locator("#share").click()
    expect(page.locator("#toast")).to_contain_text(page.url)
