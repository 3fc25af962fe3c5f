"""A served application and a real Chromium for the tests of what only scripts and styles can get wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

from nat_core.records import ExperimentRecord
from server.main import create_app
from server.settings import Settings
from server.store import Store
from tests.server.support import served, valkey
from tests.web.building import finished_experiment, launch, small_spec

expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "<img src=x onerror=alert(1)> half?"


@dataclass
class Site:
    """A served application with one finished and one waiting experiment."""

    url: str
    app: FastAPI
    finished: ExperimentRecord
    waiting: ExperimentRecord

    @property
    def store(self) -> Store:
        store: Store = self.app.state.store
        return store


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with valkey() as redis_url:
        home = tmp_path_factory.mktemp("site")
        app = create_app(Settings(home=home, redis_url=redis_url, lease_s=3600))  # no worker beats here
        store: Store = app.state.store
        finished = finished_experiment(store, small_spec(HOSTILE, seeds=(0, 1), steps=12), evaluate_every=4)
        waiting = launch(store, small_spec("Waiting"))
        with served(app) as url:
            yield Site(url, app, finished, waiting)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def leave(dialog: Dialog) -> None:
    """Go away from a page that asks, since something typed in it is not sent."""
    dialog.accept()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on which every script error and every refusal by the content policy fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(15_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.on("dialog", lambda dialog: leave(dialog) if dialog.type == "beforeunload" else errors.append(dialog.message))
    yield page
    context.close()
    assert errors == []


def drawn(page: Page, name: str) -> None:
    """Scroll a chart into view, for only those in view are drawn, and wait until it is."""
    page.get_by_test_id(f"chart-{name}").locator("xpath=..").scroll_into_view_if_needed()
    expect(page.get_by_test_id(f"chart-{name}").locator("svg.main-svg").first).to_be_visible()
