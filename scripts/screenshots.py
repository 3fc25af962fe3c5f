"""Pictures of the pages for the documentation, from a real finished experiment: `make screenshots`.

Starts the stack on `NATLAB_HOME` and takes the newest experiment whose runs have all succeeded; where there
is none it trains the built-in demo first, with three seeds. Workers' names are replaced in the pictures.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from client.api import NatLab, default_token
from client.processes import stop_signals
from client.up import Settings, Stack
from nat_core.events import SampleEvent
from nat_core.records import ExperimentRecord
from nat_core.spec import demo_experiment

IMAGES = Path(__file__).parents[1] / "docs" / "images"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WIDTH = 1280
DRAWN = """() => [...document.querySelectorAll('[data-chart]')]
  .filter(chart => chart.closest('.chart').getBoundingClientRect().top < innerHeight && chart.offsetParent)
  .every(chart => chart.classList.contains('nothing') || chart.querySelector('svg.main-svg'))
  && (!document.getElementById('cost') || document.querySelector('[data-testid=plan-table]'))
  && document.querySelector('[data-field=position]')?.textContent !== '—'"""
RENAME = """names => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    for (const [old, name] of names) walker.currentNode.data = walker.currentNode.data.replaceAll(old, name);
  }
}"""


@dataclass(frozen=True)
class Shot:
    """A picture: its name, the address, and how much of the page is seen."""

    name: str
    path: str
    height: int


SHOTS = (
    Shot("compare", "/experiments/{experiment}", 1290),
    Shot("run", "/runs/{run}", 1010),
    Shot("tokens", "/runs/{run}/tokens?{sample}", 900),
    Shot("launch", "/experiments/new?clone={experiment}", 1010),
    Shot("system", "/runs/{run}/system", 1100),
)


def finished_experiment(lab: NatLab, wanted: str | None) -> ExperimentRecord:
    """The experiment asked for, else the newest finished one, else the demo, trained now."""
    if wanted:
        return lab.experiment(wanted)
    for experiment in lab.experiments():
        if experiment.state == "succeeded":
            return experiment
    launched = lab.launch(demo_experiment(seeds=(0, 1, 2)))
    print(f"Training {launched.id} first: {len(launched.runs)} runs")
    return lab.wait(launched.id, every_s=5)


def telling_sample(lab: NatLab, run: str) -> str:
    """The query of the sample nearest to half kept, the newest of such: it shows what a cut is."""
    found = [event for event in lab.events(run, type="sample") if isinstance(event, SampleEvent)]
    best = min(reversed(found), key=lambda one: abs(sum(one.keep) / len(one.keep) - 0.5))
    of_step = [event for event in found if event.step == best.step]
    return f"step={best.step}&sample={of_step.index(best) + 1}"


def shown_names(lab: NatLab) -> list[tuple[str, str]]:
    """What stands in the pictures for each worker and host, longest names first: one may be part of another."""
    names = {}
    for number, worker in enumerate(lab.workers(), start=1):
        names[worker.hostname] = f"box-{number}"
        names[worker.id] = f"box-{number}"
    return sorted(names.items(), key=lambda pair: -len(pair[0]))


def take(page: Page, shot: Shot, url: str, picture: Path, names: list[tuple[str, str]]) -> None:
    page.set_viewport_size({"width": WIDTH, "height": shot.height})
    page.goto(url, wait_until="load")
    page.wait_for_function(DRAWN)
    page.evaluate("document.fonts.ready")
    page.evaluate(RENAME, names)
    page.screenshot(path=picture)


def take_all(browser: Browser, lab: NatLab, experiment: ExperimentRecord, folder: Path) -> None:
    spec = experiment.spec
    run = next(run for run in experiment.runs if run.cell != spec.baseline and not spec.budgets[run.cell].biased)
    names, sample = shown_names(lab), telling_sample(lab, run.id)
    for theme in ("light", "dark"):
        context = browser.new_context(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        page = context.new_page()
        if token := default_token():
            page.goto(f"{lab.url}/?token={token}")
        for shot in SHOTS:
            address = lab.url + shot.path.format(experiment=experiment.id, run=run.id, sample=sample)
            take(page, shot, address, folder / f"{shot.name}-{theme}.png", names)
        context.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", help="the experiment to show; the newest finished one unless given")
    parser.add_argument("--output", type=Path, default=IMAGES, help="the folder they go to; docs/images unless given")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with (
        stop_signals() as hurried,
        Stack(Settings.from_environment(), print, hurried) as stack,
        NatLab(stack.settings.url) as lab,
        chromium() as browser,
    ):
        take_all(browser, lab, finished_experiment(lab, options.experiment), options.output)
    print(f"{2 * len(SHOTS)} pictures are in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
