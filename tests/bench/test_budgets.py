"""Counted FLOPs, and the fraction at which a budget spends as much as another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.budgets import Meter, at_fraction, budgets_at, counted_flops, equal_flops
from nat_core.cost import TokenCost
from nat_core.spec import CompletionsBudget, FullBudget, RpcBudget, TruncateBudget, UrsBudget
from tests.bench.builders import tiny_case


def test_counted_flops_read_the_prompt_and_all_kept_tokens_but_the_last() -> None:
    prompts = [torch.ones(4), torch.ones(9), torch.ones(2), torch.ones(4)]
    selection = SimpleNamespace(kept_length=torch.tensor([3, 0, 1, 2]), num_kept=3)
    rows = SimpleNamespace(prompts=prompts, prompt_lengths=torch.tensor([4, 9, 2, 4]))
    step: Any = SimpleNamespace(selection=selection, rows=rows)
    # Attention over 4 + 3 - 1, 2 + 1 - 1 and 4 + 2 - 1 tokens; the second completion keeps nothing and never runs.
    attention = 3 * 2 * 5 * (6 * 7 + 2 * 3 + 5 * 6)
    trunk = 3 * 2 * 10 * (4 + 2 + 2 + 0 + 1) + attention  # the last shares the prompt of the first
    assert counted_flops(TokenCost(trunk_weights=10, attention_width=5, head_weights=7), step) == trunk + 3 * 2 * 7 * 3


def test_fraction_within_finds_the_fraction_that_was_spent() -> None:
    meter = Meter(tiny_case(), num_selections=40)
    for budget in (CompletionsBudget(fraction=0.5, weighting="flat"), RpcBudget(fraction=0.5)):
        target = meter.mean_flops(at_fraction(budget, 0.62))
        assert meter.fraction_within(budget, target) == pytest.approx(0.62, abs=0.01)
        assert meter.fraction_within(at_fraction(budget, 0.62), target) == 0.62


def test_fraction_within_says_what_cannot_be_that_cheap() -> None:
    meter = Meter(tiny_case(), num_selections=40)
    full = meter.mean_flops(FullBudget())
    assert meter.fraction_within(RpcBudget(fraction=0.5, law="uniform"), 0.5 * full) is None
    assert meter.fraction_within(UrsBudget(fraction=0.5), 0.05 * full) is None
    assert meter.fraction_within(TruncateBudget(fraction=0.5), 0.5 * full) is not None


def test_equal_flops_spend_what_rpc_linear_does() -> None:
    meter = Meter(tiny_case(), num_selections=40)
    target = meter.mean_flops(RpcBudget(fraction=0.5))
    entries = equal_flops(meter, 0.5)
    assert [entry.name for entry in entries] == [budget.label for budget in budgets_at(0.5)]
    found = {entry.name: entry for entry in entries}
    assert {found[name].budget.fraction for name in found if name.startswith("rpc · linear")} == {0.5}
    for name in ("completions · ½", "completions · ½ · flat"):
        assert found[name].reached and meter.mean_flops(found[name].budget) == pytest.approx(target, rel=0.03)


def test_budgets_below_half_leave_law_uniform_out() -> None:
    assert not any("uniform" in budget.label for budget in budgets_at(0.25))
    assert len({budget.label for budget in budgets_at(0.5)}) == len(budgets_at(0.5)) == 12
