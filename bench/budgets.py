"""Which budgets are compared, and the fraction at which each spends what another does.

A step's cost is counted, never nominal: FLOPs of the trunk on prompt and kept prefix, as far as the update step runs
it (a group's prompt once), and of the head on selected tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import torch

from bench.cases import Case
from nat_core.cost import TokenCost
from nat_core.drawing import Step
from nat_core.spec import (
    BudgetSpec,
    CompletionsBudget,
    ImportanceBudget,
    RpcBudget,
    TopSurprisalBudget,
    TruncateBudget,
    UrsBudget,
)
from nat_core.trainer import stream_seed

Arm = Literal["tokens", "flops"]
PartialBudget = UrsBudget | RpcBudget | CompletionsBudget | ImportanceBudget | TruncateBudget | TopSurprisalBudget
TOLERANCE = 0.003  # of the FLOPs that are to be met
SMALLEST = 0.05  # a budget of fewer tokens than one in twenty is not looked at


@dataclass(frozen=True)
class Entry:
    """One budget in one arm of the comparison.

    Attributes:
        name: its label at the comparison's fraction, the same in both arms.
        reached: whether it can be as cheap as the arm asks; if not, `budget` is the cheapest it can be.
    """

    arm: Arm
    name: str
    budget: PartialBudget
    reached: bool = True


def budgets_at(fraction: float) -> list[PartialBudget]:
    """Every budget that can keep this share of the tokens."""
    found: list[PartialBudget] = [
        UrsBudget(fraction=fraction),
        UrsBudget(fraction=fraction, design="fixed"),
        ImportanceBudget(fraction=fraction),
        CompletionsBudget(fraction=fraction),
        CompletionsBudget(fraction=fraction, weighting="flat"),
        RpcBudget(fraction=fraction, coupling="iid"),
        RpcBudget(fraction=fraction, coupling="antithetic"),
        RpcBudget(fraction=fraction, coupling="systematic"),
        RpcBudget(fraction=fraction, law="optimal"),
        TruncateBudget(fraction=fraction),
        TopSurprisalBudget(fraction=fraction),
    ]
    if fraction >= 0.5:
        found.insert(5, RpcBudget(fraction=fraction, law="uniform"))
    return found


def equal_tokens(fraction: float) -> list[Entry]:
    """Every budget at the same expected share of tokens."""
    return [Entry("tokens", budget.label, budget) for budget in budgets_at(fraction)]


def equal_flops(meter: Meter, fraction: float) -> list[Entry]:
    """Every budget at the fraction where a step costs what one of `rpc` `linear` does at `fraction`."""
    target = meter.mean_flops(RpcBudget(fraction=fraction))
    return [_entry_within(meter, budget, target) for budget in budgets_at(fraction)]


def _entry_within(meter: Meter, budget: PartialBudget, target: float) -> Entry:
    found = meter.fraction_within(budget, target)
    cheapest = smallest_fraction(budget) if found is None else found
    return Entry("flops", budget.label, at_fraction(budget, cheapest), reached=found is not None)


@dataclass(frozen=True)
class Meter:
    """Counts what steps cost on a case's batch.

    Attributes:
        num_selections: how many of a budget are averaged; they are drawn from the same seed for every budget.
    """

    case: Case
    num_selections: int = 200

    def mean_flops(self, budget: BudgetSpec) -> float:
        """Expected FLOPs of a step."""
        generator = torch.Generator().manual_seed(stream_seed(self.case.spec.seed, "counted"))
        if isinstance(budget, RpcBudget):  # a coupling leaves the mean alone; this one finds it soonest
            budget = budget.model_copy(update={"coupling": "systematic"})
        cost = self.case.policy.token_cost
        return fmean(counted_flops(cost, self.case.draw(budget, generator)) for _ in range(self.num_selections))

    def fraction_within(self, budget: PartialBudget, target: float) -> float | None:
        """The fraction, to three decimals, at which a step costs `target` FLOPs; None if it always costs more."""
        if abs(self.mean_flops(budget) / target - 1) <= TOLERANCE:
            return budget.fraction
        low, high = smallest_fraction(budget), 1.0
        if self.mean_flops(at_fraction(budget, low)) > target:
            return None
        while high - low > 0.0005:
            middle = (low + high) / 2
            if self.mean_flops(at_fraction(budget, middle)) < target:
                low = middle
            else:
                high = middle
        return round((low + high) / 2, 3)


def counted_flops(cost: TokenCost, step: Step) -> float:
    """Forward and backward FLOPs of a step's selection, a prompt once for all its completions that keep any."""
    prompts = {step.rows.prompts[i].numpy().tobytes(): len(step.rows.prompts[i]) for i in _kept(step)}
    lengths = trunk_lengths(step).double()
    own = int(step.selection.kept_length.sum()) - len(lengths)  # of each, the last kept token is only predicted
    linear = cost.linear(own + sum(prompts.values()))
    return float(linear + cost.attention(lengths).sum() + cost.head(step.selection.num_kept))


def _kept(step: Step) -> list[int]:
    return step.selection.kept_length.nonzero().flatten().tolist()


def trunk_lengths(step: Step) -> torch.Tensor:
    """Tokens that the trunk reads of each completion that keeps any, Long: the last kept one is only predicted."""
    kept = step.selection.kept_length
    return (step.rows.prompt_lengths + kept - 1)[kept > 0]


def smallest_fraction(budget: PartialBudget) -> float:
    return 0.5 if isinstance(budget, RpcBudget) and budget.law == "uniform" else SMALLEST


def at_fraction(budget: PartialBudget, fraction: float) -> PartialBudget:
    """The same budget with another fraction."""
    return type(budget).model_validate(budget.model_dump() | {"fraction": fraction})
