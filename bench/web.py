"""How quick the pages are on a full database, by a real browser's own timings.

    python -m bench.web --json bench/results/web.json

A thousand runs lie in the database, a hundred of them with metrics of 10,000 steps; server and Chromium are processes
of their own on this machine. Each page is opened with an empty cache and again; twenty runs then report twice a second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from bench.orchestrator import Result, show
from bench.orchestrator_load import valkey
from bench.web_load import Lab, build, server, streaming
from nat_core import hardware

_ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
_FIRST_CONTENT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
# Every chart that is near the view has been drawn, or says that it has nothing to draw.
_DRAWN = """() => {
  const seen = panel => panel.offsetParent && panel.getBoundingClientRect().top < innerHeight;
  const charts = [...document.querySelectorAll('[data-chart]')].filter(chart => seen(chart.closest('.chart')));
  const drawn = chart => chart.classList.contains('nothing') || chart.querySelector('svg.main-svg');
  return charts.length && charts.every(chart => chart.dataset.points && drawn(chart)) && performance.now();
}"""
_TRANSFERRED = """performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))
  .reduce((sum, entry) => sum + entry.transferSize, 0)"""
_WATCH_TASKS = """window.longTasks = [];
new PerformanceObserver(list => window.longTasks.push(...list.getEntries().map(entry => entry.duration)))
  .observe({ type: 'longtask', buffered: true });"""


def first_content(browser: Browser, url: str, times: int) -> dict[str, Any]:
    """Milliseconds from the request to the first text, each time with an empty cache."""
    found = []
    for _ in range(times):
        with opened(browser) as (_, page):
            page.goto(url)
            page.wait_for_function(_FIRST_CONTENT)
            found.append(page.evaluate(_FIRST_CONTENT))
    return {"first_ms": found[0], "median_ms": statistics.median(found), "slowest_ms": max(found), "times": times}


def drawn(browser: Browser, url: str, times: int) -> dict[str, Any]:
    """Milliseconds until every chart in view is drawn: with an empty cache, then as one who comes again.

    Beside it the bytes that the second visit takes.
    """
    visits: tuple[list[float], list[float]] = [], []
    sizes: tuple[list[int], list[int]] = [], []
    for _ in range(times):
        with opened(browser) as (context, _page):
            for took, size in zip(visits, sizes, strict=True):
                page = context.new_page()
                page.goto(url)
                took.append(page.wait_for_function(_DRAWN, polling="raf").json_value())
                size.append(page.evaluate(_TRANSFERRED))
                page.close()
    return {
        "first_visit_ms": statistics.median(visits[0]),
        "again_ms": statistics.median(visits[1]),
        "slowest_ms": max(visits[1]),
        "first_bytes": max(sizes[0]),
        "again_bytes": max(sizes[1]),
        "times": times,
    }


def tasks(browser: Browser, url: str, seconds: float) -> dict[str, Any]:
    """The longest that the page's script held up the browser while values kept coming, and how often charts grew."""
    with opened(browser) as (_, page):
        page.add_init_script(_WATCH_TASKS)
        page.goto(url)
        page.wait_for_function(_DRAWN)
        opening = page.evaluate("window.longTasks.splice(0)")
        before = page.evaluate("Number(document.querySelector('[data-chart=reward]').dataset.points)")
        grown, last = 0, before
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            page.wait_for_timeout(250)
            now = page.evaluate("document.querySelector('[data-chart=reward]')._fullData?.[0]?.x?.at(-1) ?? 0")
            grown, last = grown + (now != last), now
        found = page.evaluate("window.longTasks")
    return {
        "longest_ms": max(found, default=0.0),
        "num_over_50_ms": len(found),
        "opening_ms": max(opening, default=0.0),
        "updates": grown,
        "seconds": seconds,
    }


@contextmanager
def opened(browser: Browser) -> Iterator[tuple[BrowserContext, Page]]:
    """A page in a context of its own, with an empty cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 1200}, reduced_motion="reduce")
    yield context, context.new_page()
    context.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


def results(browser: Browser, url: str, redis_url: str, lab: Lab, live_steps: int, quick: bool) -> Iterator[Result]:
    times = 3 if quick else 7
    long = lab.long[0]
    run_ids = [run.id for run in long.runs[:10]]
    pages = {
        "experiments": "/experiments",
        "an experiment of 50 long runs": f"/experiments/{long.id}",
        "a run": f"/runs/{long.runs[1].id}",
        "launch": "/experiments/new",
    }
    for name, path in pages.items():
        found = first_content(browser, url + path, times)
        yield Result(f"first content, {name}, opened first", found["first_ms"], "ms", 300, details=found)
        yield Result(f"first content, {name}", found["median_ms"], "ms", 300, details=found)
    found = drawn(browser, f"{url}/compare?runs={','.join(run_ids)}", times)
    yield Result("comparison of 10 runs drawn, first visit", found["first_visit_ms"], "ms", None, details=found)
    yield Result("comparison of 10 runs drawn", found["again_ms"], "ms", 1000, details=found)
    yield Result("comparison of 10 runs, second visit", found["again_bytes"] / 2**20, "MiB", 2, details=found)
    found = drawn(browser, f"{url}/experiments/{long.id}", times)
    yield Result("experiment of 50 long runs drawn", found["again_ms"], "ms", None, details=found)
    yield Result("experiment of 50 long runs, second visit", found["again_bytes"] / 2**20, "MiB", 2, details=found)
    with streaming(redis_url, lab.live.runs, live_steps, per_s=2):
        found = tasks(browser, f"{url}/experiments/{lab.live.id}", 10 if quick else 30)
    yield Result("longest task while 20 runs report", found["longest_ms"], "ms", 200, details=found)
    yield Result("longest task of opening that page", found["opening_ms"], "ms", None)


def measured(quick: bool, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The rows of the report, as they are found."""
    live_steps = 100 if quick else 1_000
    with tempfile.TemporaryDirectory(prefix="nlb") as name, valkey(Path(name)) as redis_url:
        home = Path(name) / "home"
        began = time.monotonic()
        lab = build(home, redis_url, *((200, 100, 1_000) if quick else (1_000, 100, 10_000)), live_steps)
        say(f"the database took {time.monotonic() - began:.0f} s to build")
        with server(home, redis_url) as url, chromium() as browser:
            for result in results(browser, url, redis_url, lab, live_steps, quick):
                say(f"{result.name}: {result.value:,.4g} {result.unit}")
                yield asdict(result) | {"kept": result.kept, "load_before": os.getloadavg()[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller database and fewer visits, for a first look")
    parser.add_argument("--json", type=Path, help="where to write the numbers, with the hardware")
    options = parser.parse_args()
    rows = list(measured(options.quick, lambda line: print(line, file=sys.stderr, flush=True)))
    report = {
        "command": " ".join(["python -m bench.web", *sys.argv[1:]]),
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "hardware": hardware.describe(torch.device("cpu")),
        "rows": rows,
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    show(rows)
    return 0 if all(row["kept"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
