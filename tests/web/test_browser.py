"""The pages in a real Chromium: what only scripts and styles can get wrong."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from server.ingest import Batch, store_batches
from server.life import RunLife
from tests.web.browsing import HOSTILE, Site, drawn
from tests.web.building import HARDWARE, finished_experiment, launch, run_events, small_spec, train
from web.run_pages import TABS

pytestmark = pytest.mark.slow


def paths(site: Site) -> list[str]:
    run = site.finished.runs[1].id
    tabs = [f"/runs/{run}"] + [f"/runs/{run}/{tab}" for tab in TABS if tab != "overview"]
    compare = f"/compare?runs={','.join(run.id for run in site.finished.runs)}"
    pages = ["/experiments", f"/experiments/{site.finished.id}", f"/experiments/{site.finished.id}?table=runs", compare]
    return [*pages, *tabs, "/experiments/new", "/workers", "/runs/none", "/nowhere"]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_is_wider_than_the_screen(site: Site, page: Page, width: int, theme: str) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 844})
    for path in paths(site):
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate("document.documentElement.dataset.theme") == theme


def test_compare_page_draws_charts_and_keeps_hostile_names_as_text(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    expect(page.locator("h1")).to_have_text(HOSTILE)
    for name in ("tradeoff", "savings", "eval/accuracy", "reward"):
        page.get_by_test_id(f"chart-{name}").scroll_into_view_if_needed()
        drawn(page, name)
    expect(page.get_by_test_id("chart-savings")).to_have_attribute("aria-label", re.compile(r"tokens trained on −\d+%"))

    # Another budget's savings, another cost on the axis, a curve put away.
    expect(page.locator('#savings-pick [aria-pressed="true"]')).to_have_text("rpc · linear · ½")
    page.locator("#savings-pick button", has_text="truncate").click()
    expect(page.get_by_test_id("chart-savings")).to_have_attribute(
        "aria-label", re.compile("^truncate · ½ against full")
    )
    expect(page.locator('#savings-pick [aria-pressed="true"]')).to_have_text("truncate · ½")
    page.get_by_role("button", name="memory", exact=True).click()
    expect(page.get_by_test_id("chart-tradeoff")).to_have_attribute("aria-label", re.compile("peak memory, GiB"))
    page.locator(".legend button", has_text="truncate").click()
    page.wait_for_function(
        "() => (hidden => hidden.length && hidden.every(t => t.meta.cell === 2))"
        "(document.querySelector('[data-chart=reward]').data.filter(t => t.visible === false))"
    )
    page.get_by_role("link", name="runs", exact=True).click()
    expect(page.get_by_test_id("runs-table").locator("tbody tr")).to_have_count(6)


def test_numbers_behind_a_chart_are_a_table(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    drawn(page, "tradeoff")
    panel = page.locator("section", has=page.get_by_test_id("chart-tradeoff")).last
    panel.get_by_text("Numbers", exact=True).click()
    expect(panel.locator(".plot-data tbody tr")).to_have_count(3)
    expect(panel.locator(".plot-data thead th").first).to_have_text("Budget")


def test_run_page_grows_without_a_reload_and_keeps_the_zoom(site: Site, page: Page) -> None:
    run = launch(site.store, small_spec("Live", steps=60)).runs[0]
    page.goto(f"{site.url}/runs/{run.id}")
    expect(page.get_by_test_id("run-state")).to_have_text("queued")
    expect(page.locator("#live")).to_have_text("live")
    page.evaluate("window.sameDocument = true")
    life = RunLife(site.store)
    site.store.register_worker("box", "box", HARDWARE)
    attempt = life.claim(run.id, "box").attempt
    events = list(run_events(run, "full", 30))

    def report(first: int, last: int) -> None:
        store_batches(site.store, [Batch(run.id, attempt, [e for e in events if first <= e.step <= last])])
        life.heartbeat(run.id, attempt, last)

    report(0, 10)
    chart = page.get_by_test_id("chart-reward")
    expect(chart).to_have_attribute("data-points", "10")
    expect(page.get_by_test_id("run-state")).to_have_text("running")
    page.wait_for_function("() => document.querySelector('[data-chart=reward]').layout?.yaxis?.range")
    page.evaluate("window.Plotly.relayout(document.querySelector('[data-chart=reward]'), {'xaxis.range': [2, 5]})")
    report(11, 30)
    expect(chart).to_have_attribute("data-points", "30")
    expect(page.get_by_test_id("run-progress")).to_have_attribute("aria-valuenow", "50")
    expect(page).to_have_title("50% full, seed 0 · natlab")
    assert page.evaluate("document.querySelector('[data-chart=reward]').layout.xaxis.range") == [2, 5]

    page.get_by_test_id("stop").click()
    page.get_by_test_id("confirm-yes").click()
    expect(page.get_by_test_id("run-state")).to_have_text("stopping")
    life.finish(run.id, attempt, "stopped")
    expect(page.get_by_test_id("run-state")).to_have_text("stopped")
    expect(page.locator("#announce")).to_have_text("full, seed 0: stopped")
    assert page.evaluate("window.sameDocument") is True


def test_savings_appear_when_the_second_run_ends(site: Site, page: Page) -> None:
    experiment = launch(site.store, small_spec("Ends"))
    full, rpc, _ = experiment.runs
    train(site.store, full)
    train(site.store, rpc, upto=6)
    page.goto(f"{site.url}/experiments/{experiment.id}")
    savings = page.get_by_test_id("chart-savings")
    expect(savings).to_have_attribute("data-points", "0")
    drawn(page, "budget/effective_sample_size")  # the last one of the page
    page.wait_for_timeout(1500)  # nothing more is under way: what comes now comes of the run's end
    expect(page.locator("#live")).to_have_text("live")
    RunLife(site.store).finish(rpc.id, 1, "succeeded")
    expect(savings).to_have_attribute("data-points", "4")
    expect(page.get_by_test_id("verdict")).to_contain_text(site.store.comparison(experiment.id).headline)


def test_stopping_can_be_thought_better_of(site: Site, page: Page) -> None:
    run = site.waiting.runs[0]
    page.goto(f"{site.url}/runs/{run.id}")
    page.get_by_test_id("stop").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_test_id("run-state")).to_have_text("queued")
    assert site.store.get_run(run.id).state == "queued"


def test_an_experiment_is_put_away_brought_back_and_deleted(site: Site, page: Page) -> None:
    experiment = finished_experiment(site.store, small_spec("To go"))
    page.goto(f"{site.url}/experiments/{experiment.id}")
    more = page.locator("summary[aria-label='More actions']")
    more.click()
    page.get_by_role("button", name="Archive").click()
    expect(page.locator("#facts")).to_contain_text("archived")
    more.click()
    page.get_by_role("button", name="Bring back").click()
    expect(page.locator("#facts")).not_to_contain_text("archived")
    more.click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_test_id("confirm-yes").click()
    page.wait_for_url(f"{site.url}/experiments")
    assert experiment.id not in [item.id for item in site.store.list_experiments().items]


def test_theme_follows_the_system_until_it_is_chosen(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    drawn(page, "tradeoff")
    root = page.locator("html")
    color = "color => document.querySelector('[data-chart=tradeoff]').data.at(-1).marker.line.color === color"
    expect(root).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    page.wait_for_function(color, arg="#f2975c")  # the third cell's colour in the dark
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(root).to_have_attribute("data-theme", "light")
    page.wait_for_function(color, arg="#c2571a")
    page.reload()
    expect(root).to_have_attribute("data-theme", "light")


def test_tokens_are_read_by_keyboard(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/runs/{site.finished.runs[1].id}/tokens?step=8&sample=2")
    expect(page.locator("#h-sample")).to_have_text("Step 8 · sample 2 of 4")
    tokens = page.get_by_test_id("tokens").locator(".t")
    position = page.locator('[data-field="position"]')
    expect(position).to_have_text("1")
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(position).to_have_text("3")
    page.keyboard.press("End")
    expect(page.locator('[data-field="kept"]')).to_have_text("no")
    expect(page.locator('[data-field="weight"]')).to_have_text("—")
    tokens.first.hover()
    expect(position).to_have_text("1")
    page.get_by_role("link", name="Next sample").click()
    expect(page.locator("#h-sample")).to_have_text("Step 8 · sample 3 of 4")
    page.wait_for_load_state("load")  # the text is there before the scripts are
    page.locator("select[name=in]").select_option("12")
    expect(page.locator("#h-sample")).to_have_text("Step 12 · sample 1 of 4")
    page.wait_for_load_state("load")
    page.keyboard.press("/")
    page.keyboard.type("#### 4")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=%23%23%23%23*")
    expect(page.get_by_test_id("found").locator("tbody tr")).to_have_count(4)
    page.get_by_role("link", name="Step 12, 3").click()
    expect(page.locator("#h-sample")).to_have_text("Step 12 · sample 3 of 4")
    assert "q=%23%23%23%23" in page.url and "in=12" in page.url


def test_runs_that_fail_say_why(site: Site, page: Page) -> None:
    run = launch(site.store, small_spec("Fails", steps=6)).runs[0]
    train(site.store, run, upto=2)
    RunLife(site.store).finish(run.id, 1, "failed", "nan_loss", "the loss of step 3 was not finite; lower the rate")
    page.goto(f"{site.url}/runs/{run.id}")
    expect(page.get_by_test_id("run-state")).to_have_text("failed")
    expect(page.get_by_test_id("failure")).to_contain_text("nan_loss")
    expect(page.get_by_test_id("failure")).to_contain_text("The loss of step 3 was not finite; lower the rate.")
