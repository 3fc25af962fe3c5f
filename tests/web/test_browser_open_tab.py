"""A tab that stays open: what the reader is at outlives live updates, and what fails is tried again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.web.browsing import Site, drawn
from tests.web.building import finished_experiment, launch, small_spec, train

pytestmark = pytest.mark.slow

REFRESH = "document.body.dispatchEvent(new CustomEvent('natlab:refresh'))"


def test_the_focus_stays_on_a_link_of_a_part_that_is_drawn_anew(site: Site, page: Page) -> None:
    run = launch(site.store, small_spec("In focus", steps=60)).runs[0]
    page.goto(f"{site.url}/experiments")
    expect(page.locator("#live")).to_have_text("live")
    link = page.get_by_role("link", name="In focus")
    link.focus()
    link.evaluate("link => (link.dataset.drawn = 'before')")
    train(site.store, run, upto=3)
    expect(page.locator("tbody tr", has=link)).to_contain_text("running")
    expect(link).not_to_have_attribute("data-drawn", "before")
    expect(link).to_be_focused()
    page.keyboard.press("o")  # opens the row whose link is focused
    page.wait_for_url(f"{site.url}/experiments/{run.experiment_id}")


def test_columns_are_chosen_one_after_another_without_losing_one_s_place(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    page.locator("#columns > summary").click()
    choices = page.locator("#column-choices input")
    last = choices.count() - 1
    for place in (last, last - 1):
        label = choices.nth(place).locator("xpath=..").inner_text()
        choices.nth(place).focus()
        page.keyboard.press("Space")
        expect(page.locator("#table thead")).to_contain_text(label)
        expect(choices.nth(place)).to_be_focused()
        assert page.evaluate("document.getElementById('column-choices').scrollTop") > 0


def test_what_is_unfolded_in_a_live_part_stays_so(site: Site, page: Page) -> None:
    one_seed = finished_experiment(site.store, small_spec("Unfolded"))  # whose answer is of one budget, the rest folded
    page.goto(f"{site.url}/experiments/{one_seed.id}")
    drawn(page, "tradeoff")
    more = page.locator("#verdict details.long")
    more.locator("summary").click()
    page.evaluate("document.querySelector('#verdict .answer-line').textContent = 'an older answer'")
    page.evaluate(REFRESH)
    expect(page.locator("#verdict")).not_to_contain_text("an older answer")
    expect(more).to_have_attribute("open", "")


def test_a_box_ticked_while_an_answer_is_under_way_stays_ticked(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}?table=runs")
    drawn(page, "tradeoff")
    box = page.locator("#table [data-select]").first
    held: list[Route] = []
    page.route(re.compile(rf"/experiments/{site.finished.id}\?table=runs"), lambda route: held.append(route))
    page.evaluate("document.querySelector('#table tbody tr:last-child').remove()")  # so that the answer differs
    with page.expect_request(re.compile(r"\?table=runs$")):
        page.evaluate(REFRESH)
    box.check()
    held[0].continue_()  # asked for before the tick
    expect(page.locator("#table tbody tr")).to_have_count(6)
    expect(box).to_be_checked()
    assert f"sel={site.finished.runs[0].id}" in page.url


def test_rows_found_by_different_words_are_selected_together(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    drawn(page, "tradeoff")
    rows = page.locator("#table tbody tr")
    for word in ("rpc", "truncate"):
        page.locator("#filter").fill(word)
        expect(rows.last).to_contain_text(word)
        page.get_by_label(f"Select {word}").check()
    expect(page.locator("#compare-selected")).to_have_text(re.compile("Compare 2"))
    assert "sel=1,2" in page.url


def test_experiments_are_selected_and_compared_from_the_list(site: Site, page: Page) -> None:
    name = "A question that goes on and on, as questions of the curious do, with no end in sight"
    long = launch(site.store, small_spec(name))
    page.goto(f"{site.url}/experiments")
    page.get_by_label(f"Select {name}").check()
    expect(page.locator("#compare-selected")).to_be_hidden()
    page.get_by_label("Select Waiting").check()
    expect(page.locator("#compare-selected")).to_have_text(re.compile("Compare 2"))
    page.reload()
    expect(page.get_by_label("Select Waiting")).to_be_checked()
    page.keyboard.press("c")
    page.wait_for_url(f"{site.url}/compare?experiments={long.id},{site.waiting.id}")
    expect(page.locator("h1")).to_have_text("Comparison of 6 configurations")
    page.set_viewport_size({"width": 390, "height": 844})
    column = page.locator("#table thead th").first.bounding_box()
    assert column is not None and column["width"] < 260  # the name that stays in view leaves room for the numbers


def test_figures_that_fail_say_so_and_are_tried_again(site: Site, page: Page) -> None:
    failed: list[str] = []

    def fail_once(route: Route) -> None:
        name = route.request.url.rpartition("/")[2].partition("?")[0]
        if name in failed:
            route.continue_()
        else:
            failed.append(name)
            route.abort() if name.endswith(".js") else route.fulfill(status=500, body="{}")

    page.route(re.compile(r"figures\.json|plotly-basic"), fail_once)
    page.goto(f"{site.url}/runs/{site.finished.runs[0].id}")
    note = page.locator("section.chart", has=page.get_by_test_id("chart-reward")).locator(".plot-note")
    expect(note).to_have_text("The figure could not be fetched; it is tried again.")
    drawn(page, "reward")
    expect(note).to_be_hidden()
    assert len(failed) == 2


def test_a_line_that_has_died_unnoticed_is_opened_anew(site: Site, page: Page) -> None:
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if "/api/v1/stream" in request.url else None)
    page.clock.install()
    page.goto(f"{site.url}/runs/{site.finished.runs[0].id}/logs")
    expect(page.locator("#live")).to_have_text("live")
    assert len(streams) == 1
    with page.expect_request(re.compile("/api/v1/stream")):
        page.clock.fast_forward(60_000)  # a minute in which nothing came, not even a ping
    expect(page.locator("#live")).to_have_text("live")
    assert len(streams) == 2


def test_pages_are_printed_without_what_only_a_screen_can_do(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    page.emulate_media(media="print")
    for part in ("header.bar", "#tools .btn", "#filter", ".smooth"):
        expect(page.locator(part).first).to_be_hidden()
    expect(page.get_by_test_id("cells-table")).to_be_visible()


def test_the_focus_goes_on_from_a_button_that_is_gone_once_it_was_pressed(site: Site, page: Page) -> None:
    run = launch(site.store, small_spec("Paused by key")).runs[0]
    page.goto(f"{site.url}/runs/{run.id}")
    expect(page.locator("#live")).to_have_text("live")
    page.get_by_test_id("pause").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("run-state")).to_have_text("paused")
    expect(page.get_by_test_id("pause")).to_have_count(0)
    expect(page.get_by_test_id("resume")).to_be_focused()


def test_a_comparison_heeds_its_own_runs_alone(site: Site, page: Page) -> None:
    mine = launch(site.store, small_spec("Mine", steps=60)).runs[0]
    other = launch(site.store, small_spec("Of others", steps=60)).runs[0]
    runs = ",".join([mine.id, site.finished.runs[0].id])
    page.goto(f"{site.url}/compare?runs={runs}")
    expect(page.locator("#live")).to_have_text("live")
    drawn(page, "reward")
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    train(site.store, other, upto=3)
    heard = page.context.new_page()  # another page, which hears of all, tells that it was told
    heard.goto(f"{site.url}/runs/{other.id}")
    expect(heard.get_by_test_id("run-state")).to_have_text("running")
    assert asked == []
    train(site.store, mine, upto=3)
    expect(page.locator("#table tbody tr").first).to_contain_text("3 of 60")
    assert asked != []
