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
    attempt = RunLife(site.store).claim(run.id, "box").attempt

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


def test_tags_and_notes_are_saved_and_a_wrong_tag_is_said_beside_its_field(site: Site, page: Page) -> None:
    run = launch(site.store, small_spec("Noted")).runs[0]
    page.goto(f"{site.url}/runs/{run.id}")
    expect(page.locator("#live")).to_have_text("live")
    page.locator("#annotations > summary").click()
    tags, notes = page.get_by_role("textbox", name="Tags"), page.get_by_role("textbox", name="Notes")
    tags.fill("good, " + "x" * 41)
    notes.fill("worth a second look")
    page.get_by_role("button", name="Save").click()
    expect(tags).to_be_focused()
    expect(tags).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#edit-tags-fault")).to_contain_text("at most 40 characters")
    assert notes.input_value() == "worth a second look" and site.store.get_run(run.id).notes == ""
    tags.fill("good, odd")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[data-saved]")).to_have_text("Saved.")
    expect(page.locator("#run-head .tag")).to_have_text(["good", "odd"])
    expect(page.locator("#edit-tags-fault")).to_be_hidden()
    assert site.store.get_run(run.id).notes == "worth a second look"
    expect(page.locator("#notes-brief")).to_have_text("worth a second look")

    # What is typed after that is not saved, which is said, and asked before it is left behind.
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.type))
    notes.click()
    page.keyboard.type("!")
    expect(page.locator("[data-saved]")).to_have_text("")
    page.get_by_role("link", name="Workers").click()
    page.wait_for_url(f"{site.url}/workers")
    assert asked == ["beforeunload"]


def test_a_run_is_put_away_and_deleted_from_its_page(site: Site, page: Page) -> None:
    experiment = launch(site.store, small_spec("Shrinks"))
    run = experiment.runs[2]
    page.goto(f"{site.url}/runs/{run.id}")
    expect(page.locator("#live")).to_have_text("live")
    more = page.locator("summary[aria-label='More actions']")
    more.click()
    page.get_by_role("button", name="Archive").click()
    expect(page.locator("#run-head")).to_contain_text("archived")
    page.get_by_test_id("stop").click()
    page.get_by_test_id("confirm-yes").click()
    expect(page.get_by_test_id("run-state")).to_have_text("stopped")
    more.click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_test_id("confirm-yes").click()
    page.wait_for_url(f"{site.url}/experiments/{experiment.id}")
    assert run.id not in [one.id for one in site.store.get_experiment(experiment.id).runs]


def test_a_run_is_paused_resumed_and_killed_from_its_page(site: Site, page: Page) -> None:
    run = launch(site.store, small_spec("Pauses", steps=60)).runs[0]
    site.store.register_worker("box", "box", HARDWARE)
    life = RunLife(site.store)
    attempt = life.claim(run.id, "box").attempt
    page.goto(f"{site.url}/runs/{run.id}")
    expect(page.locator("#live")).to_have_text("live")
    state = page.get_by_test_id("run-state")
    page.get_by_test_id("pause").click()
    expect(state).to_have_text("pausing")
    expect(page.get_by_test_id("pause")).to_have_count(0)
    life.finish(run.id, attempt, "stopped")
    expect(state).to_have_text("paused")
    expect(page.locator("#run-head")).to_contain_text("Resume puts it back in the queue")
    page.get_by_test_id("resume").click()
    expect(state).to_have_text("queued")
    attempt = life.claim(run.id, "box").attempt
    expect(state).to_have_text("running")
    page.get_by_test_id("kill").click()
    page.get_by_test_id("confirm-yes").click()
    expect(state).to_have_text("stopping")
    life.finish(run.id, attempt, "failed", "killed", "it was killed on request")
    expect(page.get_by_test_id("failure")).to_contain_text("killed")
