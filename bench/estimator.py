"""How noisy each token budget's gradient is, and what it costs: `python -m bench.estimator`.

One rollout batch of each case (`bench.cases`) is fixed; its full gradient G is computed once. Then every budget draws
fresh selections of it, taking turns, so that nothing drifts, and their gradients g are compared with G: relative
variance E|g - G|² / |G|² (for a biased budget its squared error), mean cosine, and the relative length of the mean's
error, which falls like 1/sqrt(draws) for unbiased budgets and stays for biased ones. Beside it stands what a step costs
in counted FLOPs, and how much that varies. Twice: with every budget at the same expected share of tokens, and with
every budget at the fraction where a step costs the FLOPs of one of `rpc` `linear`; what cannot be that cheap says how
cheap it can be.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from bench.budgets import Entry, Meter, counted_flops, equal_flops, equal_tokens, trunk_lengths
from bench.cases import CASES, Case
from bench.estimator_figure import figure
from bench.estimator_report import markdown, show
from bench.figure_file import write_figure
from bench.tally import Spent, Tally
from nat_core import hardware
from nat_core.drawing import Step
from nat_core.spec import FullBudget, RpcBudget
from nat_core.trainer import stream_seed


def measure(meter: Meter, fraction: float, draws: int) -> dict[str, Any]:
    """The meter's batch in numbers, and one row for each budget and arm."""
    case = meter.case
    generator = torch.Generator().manual_seed(stream_seed(case.spec.seed, "drawn"))
    case.learn(RpcBudget(fraction=fraction, law="optimal"), generator)
    entries = [*equal_tokens(fraction), *equal_flops(meter, fraction)]
    everything = case.draw(FullBudget(), generator)
    full, full_flops = case.gradient(everything), counted_flops(case.policy.token_cost, everything)
    tallies = {entry.budget.label: Tally(entry.budget, full) for entry in entries if entry.reached}
    for _ in track(range(draws), description=case.name, console=Console(stderr=True)):
        for tally in tallies.values():
            step = case.draw(tally.budget, generator)
            tally.add(case.gradient(step), _spent(case, step))
    return {
        "batch": _about(case, everything, full_flops),
        "rows": [row for entry in entries for row in _rows(meter, entry, tallies, full_flops)],
    }


def _spent(case: Case, step: Step) -> Spent:
    flops = counted_flops(case.policy.token_cost, step)
    return Spent(flops, float(trunk_lengths(step).sum()), step.selection.fraction)


def _about(case: Case, everything: Step, flops: float) -> dict[str, Any]:
    lengths = everything.rows.lengths
    return {
        "parameters": sum(parameter.numel() for parameter in case.policy.parameters),
        "completions": len(case.batch.completions),
        "live_completions": len(lengths),
        "live_tokens": int(lengths.sum()),
        "shortest": int(lengths.min()),
        "median": int(lengths.median()),
        "longest": int(lengths.max()),
        "trunk_tokens": int(trunk_lengths(everything).sum()),
        "flops": flops,
    }


def _rows(meter: Meter, entry: Entry, tallies: dict[str, Tally], full_flops: float) -> Iterator[dict[str, Any]]:
    named = {
        "arm": entry.arm,
        "name": entry.name,
        "budget": entry.budget.label,
        "fraction": entry.budget.fraction,
        "biased": entry.budget.biased,
        "reached": entry.reached,
    }
    if entry.reached:
        yield named | tallies[entry.budget.label].row(full_flops)
    else:
        yield named | {"flops_share": meter.mean_flops(entry.budget) / full_flops}


def main() -> None:
    options = _options()
    if options.read:
        report = json.loads(options.read.read_text())
    else:
        report = {
            "command": " ".join(["python -m bench.estimator", *sys.argv[1:]]),
            "fraction": options.fraction,
            "draws": options.draws,
            "hardware": hardware.describe(torch.device("cpu")),
            "cases": {
                name: measure(Meter(CASES[name](options.scratch)), options.fraction, options.draws)
                for name in options.case or CASES
            },
        }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    for path in options.figure:
        write_figure(figure(report), path)
    if options.markdown:
        print(markdown(report))
    else:
        show(report)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--case", action="append", choices=list(CASES), help="one case; again for another (default: all)"
    )
    parser.add_argument("--fraction", type=float, default=0.5)
    parser.add_argument("--draws", type=int, default=40, help="selections drawn of each budget, 2 or more")
    parser.add_argument("--json", type=Path, help="where to write the numbers, with the hardware")
    parser.add_argument(
        "--figure", type=Path, nargs="+", default=[], help="where to draw them: .html, or .png (Chromium)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--read", type=Path, help="measure nothing: show the numbers that --json wrote")
    parser.add_argument("--scratch", type=Path, default=Path(".natlab/bench"), help="folder for the demo run's log")
    return parser.parse_args()


if __name__ == "__main__":
    main()
