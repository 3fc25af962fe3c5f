"""A page that stays open while its server goes and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from server.ingest import Batch, store_batches
from server.life import RunLife
from server.main import create_app
from server.settings import Settings
from tests.server.support import free_port, served, valkey
from tests.web.browsing import Site
from tests.web.building import HARDWARE, launch, run_events, small_spec

pytestmark = pytest.mark.slow


def test_a_page_outlives_its_server_and_shows_what_it_missed(page: Page, tmp_path: Path) -> None:
    port = free_port()
    with valkey() as redis_url:
        settings = Settings(home=tmp_path / "home", redis_url=redis_url, lease_s=3600)
        first = create_app(settings)
        store = first.state.store
        run = launch(store, small_spec("Stays", steps=60)).runs[0]
        store.register_worker("box", "box", HARDWARE)
        attempt = RunLife(store).claim(run.id, "box").attempt
        events = list(run_events(run, "full", 30))
        store_batches(store, [Batch(run.id, attempt, [event for event in events if event.step <= 10])])
        with served(first, port) as url:
            page.goto(f"{url}/runs/{run.id}")
            chart = page.get_by_test_id("chart-reward")
            expect(chart).to_have_attribute("data-points", "10")
            expect(page.locator("#live")).to_have_text("live")
            page.evaluate("window.sameDocument = true")
        expect(page.locator("#live")).to_have_text("reconnecting")
        page.get_by_test_id("stop").click()
        page.get_by_test_id("confirm-yes").click()
        expect(page.locator("#toast")).to_have_text("The server cannot be reached; try again when it is back.")
        expect(chart).to_have_attribute("data-points", "10")  # what was there stays

        second = create_app(settings)
        store_batches(second.state.store, [Batch(run.id, attempt, [event for event in events if event.step > 10])])
        with served(second, port):
            expect(page.locator("#live")).to_have_text("live")
            expect(chart).to_have_attribute("data-points", "30")
            page.get_by_test_id("stop").click()
            page.get_by_test_id("confirm-yes").click()
            expect(page.get_by_test_id("run-state")).to_have_text("stopping")
            assert page.evaluate("window.sameDocument") is True


def test_a_stream_that_was_refused_is_asked_for_again(site: Site, page: Page) -> None:
    refused = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=503, content_type="application/problem+json", body="{}")

    page.route("**/api/v1/stream**", refuse_once)
    page.goto(f"{site.url}/runs/{site.finished.runs[0].id}")
    expect(page.locator("#live")).to_have_text("reconnecting")
    expect(page.locator("#live")).to_have_text("live")
    assert len(refused) == 1


HIDE = """away => {
  Object.defineProperty(document, "hidden", { get: () => away, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_hidden_page_rests_and_catches_up_when_it_is_looked_at(site: Site, browser: Browser, page: Page) -> None:
    run = launch(site.store, small_spec("Looked away", steps=60)).runs[0]
    site.store.register_worker("box", "box", HARDWARE)
    attempt = RunLife(site.store).claim(run.id, "box").attempt
    events = list(run_events(run, "full", 30))
    store_batches(site.store, [Batch(run.id, attempt, [event for event in events if event.step <= 10])])
    page.goto(f"{site.url}/runs/{run.id}")
    chart = page.get_by_test_id("chart-reward")
    expect(chart).to_have_attribute("data-points", "10")
    expect(page.locator("#live")).to_have_text("live")
    page.wait_for_load_state("networkidle")
    page.evaluate(HIDE, True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    # Another reader sees what comes; this page asks for nothing.
    other = browser.new_page()
    other.goto(f"{site.url}/runs/{run.id}")
    expect(other.locator("#live")).to_have_text("live")
    store_batches(site.store, [Batch(run.id, attempt, [event for event in events if event.step > 10])])
    expect(other.get_by_test_id("chart-reward")).to_have_attribute("data-points", "30")
    other.close()
    assert asked == []
    expect(chart).to_have_attribute("data-points", "10")

    page.evaluate(HIDE, False)
    expect(chart).to_have_attribute("data-points", "30")
    expect(page.locator("#live")).to_have_text("live")
