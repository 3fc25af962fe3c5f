"""Selectors that treat a completion as a whole, or need no chance at all."""

from __future__ import annotations

import torch
from torch import Tensor

from nat_core.spec import CompletionsBudget, FullBudget, TruncateBudget
from nat_core.token_selection.probabilities import scaled_to_budget
from nat_core.token_selection.selection import Candidates, TokenSelection, make_selection, positions

_ROUNDING = 1e-9


def full(budget: FullBudget, candidates: Candidates) -> TokenSelection:
    """Every token."""
    ones = _ones(candidates)
    return make_selection(ones.bool(), ones, candidates.lengths)


def truncate(budget: TruncateBudget, candidates: Candidates) -> TokenSelection:
    """The first ceil(bT) tokens, always: biased."""
    cut = torch.ceil(candidates.lengths.double() * budget.fraction - _ROUNDING)
    keep = positions(candidates.lengths) <= cut.unsqueeze(1)
    return make_selection(keep, _ones(candidates), candidates.lengths, unbiased=False)


def completions(budget: CompletionsBudget, candidates: Candidates) -> TokenSelection:
    """Whole completions, each alone: p = b, or p ∝ c_i |A_i| sqrt(T_i / cost_i) with sum p_i T_i = b sum T_i."""
    chance = completion_probabilities(budget, candidates)
    keep = candidates.uniforms(candidates.lengths.shape[0]) < chance
    shape = _ones(candidates)
    return make_selection(shape.bool() & keep.unsqueeze(1), shape * chance.unsqueeze(1), candidates.lengths)


def completion_probabilities(budget: CompletionsBudget, candidates: Candidates) -> Tensor:
    """p_i, float64 [B]; 1 for empty completions."""
    lengths = candidates.lengths.double()
    if budget.weighting == "flat":
        return torch.where(lengths > 0, budget.fraction, 1.0)
    score = torch.ones_like(lengths)
    if candidates.advantages is not None:
        score = score * candidates.advantages.double().abs()
    if candidates.token_weight is not None:
        score = score * candidates.token_weight.double()
    if candidates.cost is not None:
        cost = candidates.cost(lengths.unsqueeze(1)).squeeze(1)
        score = score * torch.sqrt(lengths / cost.clamp(min=1e-300))
    chance = scaled_to_budget(score, lengths, budget.fraction, budget.floor)
    return torch.where(lengths > 0, chance, 1.0)


def _ones(candidates: Candidates) -> Tensor:
    return torch.ones(candidates.real.shape, dtype=torch.float64, device=candidates.lengths.device)
