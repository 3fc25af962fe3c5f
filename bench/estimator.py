"""How noisy each token budget's gradient is, on one real batch: `python -m bench.estimator --draws 40`.

One rollout batch of the demo task is fixed; its full gradient is computed once. Then every budget draws fresh
selections of it, and its gradients are compared with the full one: relative variance E|g - G|^2 / |G|^2, mean cosine,
relative length of the mean's error (which falls like 1/sqrt(draws) for unbiased budgets and stays for biased ones), and
the mean and coefficient of variation of what a step costs, in trunk tokens. Budgets take turns, so that nothing drifts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nat_core import hardware
from nat_core.batch import CompletionBatch
from nat_core.model import Policy
from nat_core.spec import (
    BudgetSpec,
    CompletionsBudget,
    FullBudget,
    ImportanceBudget,
    RpcBudget,
    RunSpec,
    TopSurprisalBudget,
    TruncateBudget,
    UrsBudget,
    demo_experiment,
)
from nat_core.trainer import Trainer
from nat_core.update import update_step


def budgets_at(fraction: float) -> list[BudgetSpec]:
    """Every budget that can keep this share of the tokens."""
    found: list[BudgetSpec] = [
        UrsBudget(fraction=fraction),
        UrsBudget(fraction=fraction, design="fixed"),
        ImportanceBudget(fraction=fraction),
        CompletionsBudget(fraction=fraction),
        CompletionsBudget(fraction=fraction, weighting="flat"),
        RpcBudget(fraction=fraction, coupling="iid"),
        RpcBudget(fraction=fraction, coupling="antithetic"),
        RpcBudget(fraction=fraction, coupling="systematic"),
        TruncateBudget(fraction=fraction),
        TopSurprisalBudget(fraction=fraction),
    ]
    if fraction >= 0.5:
        found.insert(5, RpcBudget(fraction=fraction, law="uniform"))
    return found


@dataclass
class Tally:
    """What the draws of one budget add up to; gradients are Float64 [parameters]."""

    budget: BudgetSpec
    total: Tensor
    square_errors: list[float] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)
    trunk: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)

    def add(self, gradient: Tensor, full: Tensor, metrics: dict[str, float]) -> None:
        self.total += gradient
        self.square_errors.append(float((gradient - full).square().sum() / full.square().sum()))
        self.cosines.append(float(torch.cosine_similarity(gradient, full, dim=0)))
        self.trunk.append(metrics["tokens/trunk"])
        self.kept.append(metrics["budget/fraction"])

    def row(self, full: Tensor) -> dict[str, Any]:
        draws = len(self.trunk)
        return {
            "budget": self.budget.label,
            "biased": self.budget.biased,
            "relative_variance": fmean(self.square_errors),
            "cosine": fmean(self.cosines),
            "error_of_mean": float((self.total / draws - full).norm() / full.norm()),
            "kept_share": fmean(self.kept),
            "trunk_tokens": fmean(self.trunk),
            "trunk_tokens_cv": stdev(self.trunk) / fmean(self.trunk),
        }


def one_batch(spec: RunSpec, folder: Path) -> tuple[Policy, CompletionBatch]:
    """The first rollout batch of a run, from the trainer's own set-up."""
    trainer = Trainer(spec, folder)
    trainer.set_up()
    return trainer.policy, trainer.roll_out(0).batch


def gradient_of(
    policy: Policy, batch: CompletionBatch, spec: RunSpec, budget: BudgetSpec, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """The unclipped gradient of one update step that moves nothing, and the step's metrics."""
    optimizer = torch.optim.SGD(policy.parameters, lr=0.0)
    changed = spec.model_copy(update={"budget": budget})
    stats = update_step(policy, optimizer, batch, changed, generator=generator)
    return torch.cat([p.grad.flatten().double() for p in policy.parameters if p.grad is not None]), stats.metrics


def measure(spec: RunSpec, fraction: float, draws: int, folder: Path) -> list[dict[str, Any]]:
    """One row a budget, the full gradient's cost first."""
    policy, batch = one_batch(spec, folder)
    generator = torch.Generator().manual_seed(spec.seed)
    full, full_metrics = gradient_of(policy, batch, spec, FullBudget(), generator)
    tallies = [Tally(budget, torch.zeros_like(full)) for budget in budgets_at(fraction)]
    for _ in range(draws):
        for tally in tallies:
            gradient, metrics = gradient_of(policy, batch, spec, tally.budget, generator)
            tally.add(gradient, full, metrics)
    baseline = {"budget": "full", "biased": False, "relative_variance": 0.0, "cosine": 1.0, "error_of_mean": 0.0}
    cost = {"kept_share": 1.0, "trunk_tokens": full_metrics["tokens/trunk"], "trunk_tokens_cv": 0.0}
    return [baseline | cost, *(tally.row(full) for tally in tallies)]


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("budget", *(head for head, _ in _COLUMNS), box=None)
    for row in rows:
        label = row["budget"] + (" (biased)" if row["biased"] else "")
        table.add_row(label, *(text(row) for _, text in _COLUMNS))
    Console(width=140).print(table)


_COLUMNS: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
    ("relative variance", lambda row: f"{row['relative_variance']:.2f}"),
    ("cosine", lambda row: f"{row['cosine']:.3f}"),
    ("error of mean", lambda row: f"{row['error_of_mean']:.2f}"),
    ("kept", lambda row: f"{row['kept_share']:.1%}"),
    ("trunk tokens", lambda row: f"{row['trunk_tokens']:,.0f}"),
    ("their variation", lambda row: f"{row['trunk_tokens_cv']:.1%}"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fraction", type=float, default=0.5)
    parser.add_argument("--draws", type=int, default=40, help="selections drawn of each budget")
    parser.add_argument("--json", type=Path, help="where to write the numbers, with the hardware")
    parser.add_argument("--scratch", type=Path, default=Path(".natlab/bench"), help="folder for the run's log")
    options = parser.parse_args()
    spec = demo_experiment().base.model_copy(update={"budget": FullBudget()})
    spec = spec.model_copy(update={"optim": spec.optim.model_copy(update={"max_grad_norm": 1e9})})
    rows = measure(spec, options.fraction, options.draws, options.scratch)
    show(rows)
    if options.json:
        about = {"command": "python -m bench.estimator", "fraction": options.fraction, "draws": options.draws}
        report = {**about, "hardware": hardware.describe(torch.device("cpu")), "rows": rows}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
