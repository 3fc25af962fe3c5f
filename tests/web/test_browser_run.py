"""A run's tabs in a real Chromium: the log that follows its run, samples that are looked for, a download."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from nat_core.events import LogEvent
from server.ingest import Batch, store_batches
from server.life import RunLife
from tests.web.browsing import Site, drawn
from tests.web.building import HARDWARE, launch, small_spec

pytestmark = pytest.mark.slow

AT_END = (
    "() => (log => Math.abs(log.scrollHeight - log.scrollTop - log.clientHeight) < 2)(document.querySelector('.log'))"
)


def test_the_log_follows_until_the_reader_scrolls_up_and_is_searched_in_place(site: Site, page: Page) -> None:
    run = launch(site.store, small_spec("Talks")).runs[0]
    site.store.register_worker("box", "box", HARDWARE)
    attempt, _ = RunLife(site.store).claim(run.id, "box")

    def say(first: int, last: int) -> None:
        lines = [LogEvent(seq=n, time=n, step=0, message=f"line {n} of many") for n in range(first, last + 1)]
        store_batches(site.store, [Batch(run.id, attempt, list(lines))])

    say(1, 200)
    page.goto(f"{site.url}/runs/{run.id}/logs")
    expect(page.locator("#live")).to_have_text("live")
    lines = page.locator(".log span")
    expect(lines).to_have_count(200)
    page.wait_for_function(AT_END)
    say(201, 220)
    expect(lines).to_have_count(220)
    page.wait_for_function(AT_END)

    page.evaluate("document.querySelector('.log').scrollTop = 40")
    expect(page.get_by_label("Follow")).not_to_be_checked()
    say(221, 240)
    expect(lines).to_have_count(240)
    assert page.evaluate("document.querySelector('.log').scrollTop") == 40
    page.get_by_label("Follow").check()
    page.wait_for_function(AT_END)

    page.keyboard.press("/")
    page.keyboard.type("line 203 of")
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text("line 203 of many")
    assert "q=line+203+of" in page.url
    page.reload()
    expect(lines).to_have_count(1)


def test_metrics_tab_keeps_axis_and_smoothing_in_its_address(site: Site, page: Page) -> None:
    run = site.finished.runs[1]
    page.goto(f"{site.url}/runs/{run.id}/metrics?x=wall_s&smooth=0.5&open=Cost")
    drawn(page, "reward")
    expect(page.locator('[data-param="x"][data-value="wall_s"]')).to_have_attribute("aria-pressed", "true")
    page.get_by_test_id("chart-timing_s/step").locator("xpath=..").scroll_into_view_if_needed()
    drawn(page, "timing_s/step")
    page.get_by_role("link", name="System").click()
    drawn(page, "perf/peak_memory_gib")


def test_a_checkpoint_is_downloaded(site: Site, page: Page, tmp_path: Path) -> None:
    run = site.finished.runs[1]
    folder = site.store.settings.runs / run.id / "checkpoints" / "step-00000012"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    (folder / "manifest.json").write_text(json.dumps({"state.json": {}}))
    page.goto(f"{site.url}/runs/{run.id}/checkpoints")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download step-00000012").click()
    assert download.value.suggested_filename == f"{run.id}-step-00000012.tar"
    with tarfile.open(download.value.path()) as tar:
        assert tar.getnames() == ["step-00000012/state.json", "step-00000012/manifest.json"]
