"""Curves in a real Chromium: axis, smoothing, log scale and one zoom for all, in the address; what is saved."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from nat_core.events import METRICS, MetricsEvent
from server.ingest import Batch, store_batches
from server.life import RunLife
from tests.web.browsing import Site, drawn
from tests.web.building import HARDWARE, launch, run_events, small_spec

pytestmark = pytest.mark.slow

RANGE = "name => document.querySelector(`[data-chart='${name}']`).layout?.xaxis?.range"
SHOWS = "([name, range]) => String(document.querySelector(`[data-chart='${name}']`).layout?.xaxis?.range) === range"


def drag_zoom(page: Page, name: str, left: float, right: float) -> None:
    """Drag over the plot between two shares of its width."""
    plot = page.get_by_test_id(f"chart-{name}").locator(".nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + left * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + right * box["width"], y, steps=5)
    page.mouse.up()


def test_the_view_of_the_curves_is_in_the_address_and_comes_back(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    drawn(page, "reward")
    page.get_by_role("button", name="wall-clock").click()
    expect(page.locator("[data-caption]", has_text="by wall-clock seconds").first).to_be_visible()
    page.get_by_role("button", name="log", exact=True).click()
    page.wait_for_function("() => document.querySelector('[data-chart=reward]').layout.yaxis.type === 'log'")
    page.get_by_label("Smoothing").fill("0.6")
    expect(page.locator("output")).to_have_text("0.60")
    page.locator(".legend button", has_text="truncate").click()
    page.locator("#group-Cost > summary").click()
    expect(page.locator("#group-Cost")).to_have_attribute("open", "")
    for part in ("x=wall_s", "log=1", "smooth=0.6", "hide=2", "open=Cost"):
        page.wait_for_function("part => location.search.includes(part)", arg=part)

    other = page.context.new_page()
    other.goto(page.url)
    drawn(other, "reward")
    expect(other.get_by_role("button", name="wall-clock")).to_have_attribute("aria-pressed", "true")
    expect(other.get_by_label("Smoothing")).to_have_value("0.6")
    expect(other.locator("#group-Cost")).to_have_attribute("open", "")
    chart = json.loads(
        other.evaluate(
            "JSON.stringify(document.querySelector('[data-chart=reward]').data.map(t => [t.meta.cell, t.visible]))"
        )
    )
    assert {cell for cell, visible in chart if visible is False} == {2}

    # An address that is wrong in every part shows the plain charts.
    other.goto(f"{site.url}/experiments/{site.finished.id}?x=none&smooth=x&range=5,1&cell=99&cost=%3Cb%3E&open=none")
    drawn(other, "reward")
    expect(other.get_by_role("button", name="step", exact=True)).to_have_attribute("aria-pressed", "true")


def test_one_zoom_holds_for_all_curves_while_values_arrive(site: Site, page: Page) -> None:
    experiment = launch(site.store, small_spec("Zoomed", steps=60))
    run = experiment.runs[0]
    life = RunLife(site.store)
    site.store.register_worker("box", "box", HARDWARE)
    attempt = life.claim(run.id, "box").attempt
    events = list(run_events(run, "full", 40))

    def report(first: int, last: int) -> None:
        store_batches(site.store, [Batch(run.id, attempt, [e for e in events if first <= e.step <= last])])
        life.heartbeat(run.id, attempt, last)

    report(0, 30)
    page.goto(f"{site.url}/experiments/{experiment.id}")
    drawn(page, "reward")
    drawn(page, "budget/effective_sample_size")
    drag_zoom(page, "reward", 0.25, 0.75)
    page.wait_for_function("() => location.search.includes('range=')")
    asked = page.evaluate("new URLSearchParams(location.search).get('range')")
    low, high = map(float, asked.split(","))
    assert 5 < low < 10 and 20 < high < 25
    for name in ("reward", "eval/accuracy", "budget/effective_sample_size"):
        page.wait_for_function(SHOWS, arg=[name, asked])
    report(31, 40)
    expect(page.get_by_test_id("chart-reward")).to_have_attribute("data-points", "40")
    assert page.evaluate(RANGE, "reward") == [low, high]
    page.reload()
    drawn(page, "eval/accuracy")
    page.wait_for_function(SHOWS, arg=["eval/accuracy", asked])
    page.get_by_role("button", name="Show everything").click()
    page.wait_for_function("() => !location.search.includes('range=')")
    page.wait_for_function(f"({RANGE})('reward')[1] > 39")
    drag_zoom(page, "reward", 0.25, 0.75)
    page.wait_for_function("() => location.search.includes('range=')")
    page.get_by_test_id("chart-reward").locator(".nsewdrag").first.dblclick()
    page.wait_for_function("() => !location.search.includes('range=')")
    page.wait_for_function(f"({RANGE})('eval/accuracy')[1] > 39")


def test_a_long_line_is_drawn_in_full_where_one_looks_closely(site: Site, page: Page) -> None:
    experiment = launch(site.store, small_spec("Long", steps=3000))
    run = experiment.runs[0]
    site.store.register_worker("box", "box", HARDWARE)
    attempt = RunLife(site.store).claim(run.id, "box").attempt
    events = [MetricsEvent(seq=n, time=n, step=n, values={"reward": math.sin(n)}) for n in range(1, 3001)]
    store_batches(site.store, [Batch(run.id, attempt, events)])
    page.goto(f"{site.url}/runs/{run.id}/metrics")
    drawn(page, "reward")
    drawn_points = "document.querySelector('[data-chart=reward]').data.at(-1).x"
    before = page.evaluate(drawn_points)
    assert len(before) <= 600
    drag_zoom(page, "reward", 0.4, 0.5)
    page.wait_for_function("() => location.search.includes('range=')")
    low, high = map(float, page.evaluate("new URLSearchParams(location.search).get('range')").split(","))
    wanted = [step for step in range(1, 3001) if low <= step <= high]
    assert 200 < len(wanted) < 400
    page.wait_for_function(
        f"([low, high, count]) => {drawn_points}.filter(at => low <= at && at <= high).length === count",
        arg=[low, high, len(wanted)],
    )
    assert page.evaluate(RANGE, "reward") == [low, high]
    page.get_by_role("button", name="Show everything").click()
    page.wait_for_function(f"count => {drawn_points}.length === count", arg=len(before))


def test_a_chart_that_was_zoomed_upwards_alone_has_a_way_back(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}")
    drawn(page, "reward")
    everything = page.get_by_role("button", name="Show everything")
    expect(everything).to_be_hidden()
    plot = page.get_by_test_id("chart-reward").locator(".nsewdrag").first
    box = plot.bounding_box()
    assert box is not None
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(x, box["y"] + 0.6 * box["height"], steps=5)
    page.mouse.up()
    autorange = "document.querySelector('[data-chart=reward]').layout.yaxis.autorange"
    page.wait_for_function(f"() => {autorange} === false")
    everything.click()
    page.wait_for_function(f"() => {autorange} !== false")
    expect(everything).to_be_hidden()


TOUCHED = """name => {
  const target = document.querySelector(`[data-chart='${name}'] .nsewdrag`);
  const { x, y } = target.getBoundingClientRect();
  const touches = [new Touch({ identifier: 1, target, clientX: x + 50, clientY: y + 50 })];
  const start = new TouchEvent("touchstart", { touches, changedTouches: touches, cancelable: true, bubbles: true });
  target.dispatchEvent(start);
  document.dispatchEvent(new TouchEvent("touchend", { changedTouches: touches, bubbles: true }));
  return start.defaultPrevented;
}"""


def test_a_finger_on_a_chart_is_left_to_scroll_the_page(site: Site, browser: Browser, page: Page) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    phone = context.new_page()
    for reader, is_taken in ((phone, False), (page, True)):
        reader.goto(f"{site.url}/runs/{site.finished.runs[0].id}")
        drawn(reader, "eval/accuracy")
        assert reader.evaluate(TOUCHED, "eval/accuracy") is is_taken  # where there is a mouse, it drags a zoom
    context.close()


def test_charts_are_saved_as_pictures_and_numbers(site: Site, page: Page, tmp_path: Path) -> None:
    page.goto(f"{site.url}/experiments/{site.finished.id}?x=tokens_selected")
    drawn(page, "reward")
    panel = page.locator("section.chart", has=page.get_by_test_id("chart-reward"))

    def saved(word: str) -> tuple[str, bytes]:
        panel.get_by_label("Save this chart").click()
        with page.expect_download() as download:
            panel.get_by_role("button", name=word).click()
        download.value.save_as(tmp_path / "file")
        return download.value.suggested_filename, (tmp_path / "file").read_bytes()

    name, csv = saved("Numbers, CSV")
    assert name == f"{site.finished.id}-reward.csv" and csv.startswith(
        b"run,experiment,budget,seed,state,metric,tokens_selected,"
    )
    name, numbers = saved("Numbers, JSON")
    assert name.endswith(".json") and len(json.loads(numbers)) == 6 * 12
    name, svg = saved("Picture, SVG")
    assert name.endswith("Reward.light.svg") and b"rpc \xc2\xb7 linear" in svg  # the legend is in the picture
    name, png = saved("Picture, PNG")
    assert name.endswith("Reward.light.png") and png.startswith(b"\x89PNG") and len(png) > 10_000
    panel.get_by_text("Numbers", exact=True).click()
    about, summary = panel.locator(".plot-data p").all()
    expect(about).to_have_text(METRICS["reward"].description)
    expect(summary).to_contain_text("Reward: full, 2 seeds from")
