"""What the server bears: ingest, charts, listings, live streams, and how soon a launched run trains.

    python -m bench.orchestrator --json bench/results/orchestrator.json

Every case has a limit that it must keep; the table says whether it did. A machine that others use at the same
time is slower, so the load average before each case and the processor time it took stand beside the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench import orchestrator_cases as cases
from bench import orchestrator_training as training
from nat_core import hardware


@dataclass(frozen=True)
class Result:
    """One number against its limit; without one it is told for what it is."""

    name: str
    value: float
    unit: str
    limit: float | None
    at_least: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def ingest(quick: bool) -> Iterator[Result]:
    for size in (20, 1):
        steps = 10_000 if size > 1 and not quick else 1_000
        found = cases.ingest(num_runs=10, steps=steps, size=size)
        name = f"ingest, {size} step{'s' * (size > 1)} an entry"
        limit = 150_000 if size > 1 else None
        yield Result(name, found["points_per_s"], "points/s", limit, at_least=True, details=found)
        if size > 1:
            yield Result("points lost", found["points_lost"], "points", 0, details={"of": found["points"]})


def charts(quick: bool) -> Iterator[Result]:
    found = cases.charts(num_runs=20 if quick else 100, steps=10_000, requests=30 if quick else 200)
    yield Result("chart data, 10 runs × 3 metrics of 10,000 steps, p95", found["p95_ms"], "ms", 100, details=found)
    steps = 20_000 if quick else 100_000
    found = cases.charts(num_runs=1, steps=steps, requests=30, of=1)
    yield Result(f"chart data, 1 run × 3 metrics of {steps:,} steps, p95", found["p95_ms"], "ms", 100, details=found)


def listings(quick: bool) -> Iterator[Result]:
    count = 200 if quick else 1_000
    found = cases.run_list(num_runs=count, requests=50)
    yield Result(f"run list, a page of 50 of {count:,}, p95", found["p95_ms"], "ms", 50, details=found)


def streams(quick: bool) -> Iterator[Result]:
    found = cases.streams(clients=200, stalled=20, messages=40 if quick else 200)
    yield Result("live stream, slowest of 180 readers beside 20 stalled", found["slowest_ms"], "ms", 500, details=found)
    yield Result("live stream, growth of the server's memory", found["growth_mib"], "MiB", 20)


def launch(quick: bool) -> Iterator[Result]:
    found = training.launches(times=1 if quick else 3)
    yield Result("launch to first step, warm worker, demo model", found["slowest_s"], "s", 5, details=found)
    yield Result("launch to first step, straight after another run", found["straight_after_s"], "s", None)
    event_ms = training.reporting(events=2_000)
    share = event_ms / 1e3 / found["step_s"]
    yield Result("reporting a step, of what the demo's step takes", 100 * share, "%", 1, details={"event_ms": event_ms})


def streaming(quick: bool) -> Iterator[Result]:
    cores = os.cpu_count() or 1
    for threads, where in ((max(1, cores - 1), "that leaves a core free"), (cores, "on all cores")):
        found = training.streaming(pairs=1 if quick else 4, steps=3 if quick else 21, threads=threads)
        yield Result(f"streaming, added to a step {where}, median", 100 * found["added"], "%", 1, details=found)
    yield Result("streaming, processor time, of the machine's", 100 * found["processor_share"], "%", 1)
    yield Result("a stack at rest, of the machine's processor time", 100 * found["at_rest"], "%", None)


CASES: dict[str, Callable[[bool], Iterator[Result]]] = {
    "ingest": ingest,
    "charts": charts,
    "listings": listings,
    "streams": streams,
    "launch": launch,
    "streaming": streaming,
}


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("what", "measured", "limit", "kept", "load before", box=None)
    for row in rows:
        limit = "" if row["limit"] is None else f"{'≥' if row['at_least'] else '≤'} {row['limit']:,g} {row['unit']}"
        measured = f"{row['value']:,.4g} {row['unit']}" if row["value"] < 1e4 else f"{row['value']:,.0f} {row['unit']}"
        table.add_row(row["name"], measured, limit, "yes" if row["kept"] else "NO", f"{row['load_before']:.1f}")
    Console(width=130).print(table)


def kept_rows(path: Path | None, cases: Collection[str]) -> list[dict[str, Any]]:
    """What an earlier run wrote to this file of other cases than these; each row says when and on what it was made."""
    if path is None or not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    return [row for row in rows if row["case"] in CASES and row["case"] not in cases]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(CASES), nargs="*", help="which cases; all unless given")
    parser.add_argument("--quick", action="store_true", help="smaller, for a first look")
    parser.add_argument("--json", type=Path, help="where to write the numbers; those of other cases in it are kept")
    options = parser.parse_args()
    described = hardware.describe(torch.device("cpu"))
    rows = []
    for name in options.only or CASES:
        load = os.getloadavg()[0]
        measured = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        for result in CASES[name](options.quick):
            made = {"case": name, "measured": measured, "quick": options.quick, "hardware": described}
            rows.append(asdict(result) | {"kept": result.kept, "load_before": load} | made)
            print(f"{result.name}: {result.value:,.4g} {result.unit}", file=sys.stderr, flush=True)
    if options.json:
        every = kept_rows(options.json, options.only or CASES) + rows
        every.sort(key=lambda row: list(CASES).index(row["case"]))
        options.json.parent.mkdir(parents=True, exist_ok=True)
        report = {"command": "python -m bench.orchestrator", "rows": every}
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    show(rows)
    return 0 if all(row["kept"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
