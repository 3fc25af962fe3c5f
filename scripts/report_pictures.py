"""Pictures of an exported report for the documentation: `python -m scripts.report_pictures REPORT.html NAME`.

Writes `docs/images/NAME-answer-*.png`, the answer with its tables, and `NAME-curves-*.png`, what the runs learned and
what it cost, step by step; light and dark. The report is what `natlab export` wrote, opened as a file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Page

from scripts.screenshots import IMAGES, RENAME, WIDTH, chromium

GROUPS = ("Learning", "Cost")
TALL = 4000  # pixels: charts are drawn when they come into view
OPEN = """groups => document.querySelectorAll('details.group').forEach(group => {
  group.open = groups.includes(group.querySelector('h2').textContent);
})"""
DRAWN = """() => [...document.querySelectorAll('[data-chart]')]
  .filter(chart => chart.checkVisibility()).every(chart => chart.querySelector('svg.main-svg'))"""
PARTS = """groups => {
  const all = [...document.querySelectorAll('details.group')];
  const last = all.find(group => group.querySelector("h2").textContent === groups.at(-1));
  const legend = document.querySelector('.legend').getBoundingClientRect().top;
  return {answer: [0, legend - 8], curves: [legend - 8, last.getBoundingClientRect().bottom + 8]};
}"""


def take(page: Page, name: str, theme: str, names: Sequence[tuple[str, str]]) -> None:
    page.evaluate(OPEN, GROUPS)
    page.wait_for_function(DRAWN)
    page.evaluate("document.fonts.ready")
    page.evaluate(RENAME, names)
    for part, (top, bottom) in page.evaluate(PARTS, GROUPS).items():
        clip = {"x": 0, "y": max(0, top), "width": WIDTH, "height": bottom - max(0, top)}
        page.screenshot(path=IMAGES / f"{name}-{part}-{theme}.png", clip=clip)  # type: ignore[arg-type]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="what natlab export wrote")
    parser.add_argument("name", help="what the pictures' names begin with")
    parser.add_argument("--rename", nargs="*", default=[], metavar="OLD=NEW", help="a worker's name in the pictures")
    options = parser.parse_args()
    names = [tuple(pair.split("=", 1)) for pair in options.rename]
    with chromium() as browser:
        for theme in ("light", "dark"):
            size = {"width": WIDTH, "height": TALL}
            page = browser.new_page(viewport=size, color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
            page.goto(options.report.resolve().as_uri())
            take(page, options.name, theme, names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
