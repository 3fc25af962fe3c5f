"""What a person does in a browser: launch by form, watch it learn, compare, read what was saved."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from client.api import NatLab
from tests.e2e.support import Command, chromium_path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

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


@pytest.fixture(scope="module")
def browser_page(stack: Command) -> Iterator[Page]:
    """A page whose every request and script error is remembered in `.natlab_requests` and `.natlab_errors`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(20_000)
        let_in = stack.wait_for_line(r"natlab is at (http://\S+)")[1]
        page.goto(let_in)
        assert page.url == f"{stack.url}/experiments"  # the token left the address
        yield page
        browser.close()


def fill(page: Page, pointer: str, value: str) -> None:
    page.locator(f'[data-pointer="{pointer}"]').fill(value)


def wait_for_end(lab: NatLab, run_id: str, timeout_s: float = 180) -> None:
    """Wait until a run has ended well; how long that takes is the machine's affair, not the page's."""
    deadline = time.monotonic() + timeout_s
    while not (run := lab.run(run_id)).state.is_final:
        assert time.monotonic() < deadline, f"{run_id} is {run.state} at step {run.step}"
        time.sleep(0.2)
    assert run.state == "succeeded", run.message


def test_a_person_launches_watches_and_compares(stack: Command, lab: NatLab, browser_page: Page) -> None:
    page = browser_page
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)

    # Launch: the form is filled with the demo; keep two budgets, put one aside and bring one back.
    page.goto(f"{stack.url}/experiments/new")
    rows = page.get_by_test_id("budget-row")
    while rows.count() > 1:
        rows.last.locator("[data-remove]").click()
    page.get_by_test_id("add-budget").click()
    expect(rows).to_have_count(2)
    rows.last.locator('[data-name="selector"]').select_option("rpc")
    fill(page, "/name", "Half the tokens, by form")
    fill(page, "/base/steps", "8")
    fill(page, "/base/evaluation/num_prompts", "16")
    fill(page, "/base/evaluation/every", "4")
    page.get_by_test_id("launch-submit").click()
    page.wait_for_url(re.compile(r"/experiments/exp-\w+$"))
    experiment_id = page.url.rpartition("/")[2]

    # Watch: the reward curve of the first run grows while the document stays the one that was loaded.
    first = lab.experiment(experiment_id).runs[0]
    page.goto(f"{stack.url}/runs/{first.id}")
    page.evaluate("window.sameDocument = true")
    chart = page.get_by_test_id("chart-reward")
    expect(chart).to_have_attribute("data-points", re.compile(r"^[1-9]\d*$"), timeout=90_000)
    seen = int(chart.get_attribute("data-points") or 0)
    page.wait_for_function(
        "seen => Number(document.querySelector('[data-testid=\"chart-reward\"]').dataset.points) > seen",
        arg=seen,
        timeout=60_000,
    )
    expect(chart.locator("svg.main-svg").first).to_be_visible()
    wait_for_end(lab, first.id)
    expect(page.get_by_test_id("run-state")).to_contain_text("succeeded", ignore_case=True)
    expect(page.get_by_test_id("run-progress")).to_have_attribute("aria-valuenow", "100")
    assert page.evaluate("window.sameDocument") is True

    # Compare: the page follows by itself until both budgets have ended.
    page.goto(f"{stack.url}/experiments/{experiment_id}")
    table = page.get_by_test_id("cells-table")
    expect(table.locator("tbody tr")).to_have_count(2)
    cut = table.locator("tbody tr", has_text="rpc · linear · ½")
    wait_for_end(lab, lab.experiment(experiment_id).runs[1].id)
    expect(cut).to_contain_text("1 of 1")
    comparison = lab.compare(experiment_id)
    expect(page.get_by_test_id("verdict")).to_contain_text(comparison.headline)

    # Read the savings: the bars say what the API says.
    saved = comparison.cells[1].savings["tokens_selected"].mean
    assert 0.25 < saved < 0.75
    bars = page.get_by_test_id("chart-savings")
    expect(bars).to_have_attribute("data-points", re.compile(r"^[1-9]"))
    expect(bars).to_have_attribute("aria-label", re.compile(rf"\b{100 * saved:.0f}(\.\d)?\s?%"))

    assert errors == []
    outside = [url for url in requests if not url.startswith((stack.url, "data:", "blob:"))]
    assert outside == []


def test_a_wrong_budget_is_told_beside_its_field_and_nothing_is_stored(
    stack: Command, lab: NatLab, browser_page: Page
) -> None:
    page = browser_page
    before = len(lab.experiments())
    page.goto(f"{stack.url}/experiments/new")
    row = page.get_by_test_id("budget-row").nth(1)
    row.locator('[data-name="law"]').select_option("uniform")
    row.locator('[data-name="fraction"]').fill("0.25")
    page.get_by_test_id("launch-submit").click()
    expect(row.locator("[data-budget-fault]")).to_contain_text("keeps at least half; use 0.5 or more")
    assert page.url == f"{stack.url}/experiments/new"
    assert len(lab.experiments()) == before
