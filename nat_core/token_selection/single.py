"""Selectors that choose tokens one by one: the trunk still runs to the last one kept."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nat_core.errors import SpecError
from nat_core.spec import ImportanceBudget, TopSurprisalBudget, UrsBudget
from nat_core.token_selection.probabilities import scaled_to_budget
from nat_core.token_selection.selection import Candidates, TokenSelection, make_selection

_ROUNDING = 1e-9  # keeps the ceiling of 0.07 * 100 at 7


def urs(budget: UrsBudget, candidates: Candidates) -> TokenSelection:
    """Each token with probability b: independently, or as a simple random sample of fixed size per completion."""
    real = candidates.real
    probability = torch.full(real.shape, budget.fraction, dtype=torch.float64, device=real.device)
    keep = (
        _fixed_size(budget, candidates) if budget.design == "fixed" else candidates.uniforms(*real.shape) < probability
    )
    return make_selection(keep, probability, candidates.lengths)


def _fixed_size(budget: UrsBudget, candidates: Candidates) -> Tensor:
    """Keep floor(bT) or ceil(bT) tokens of each completion, the rounding drawn so that the mean is bT."""
    real = candidates.real
    size = torch.floor(budget.fraction * candidates.lengths.double() + candidates.uniforms(real.shape[0]))
    keys = torch.where(real, candidates.uniforms(*real.shape), torch.inf)
    rank = torch.argsort(torch.argsort(keys, dim=1), dim=1)
    return rank < torch.minimum(size, candidates.lengths.double()).unsqueeze(1)


def importance(budget: ImportanceBudget, candidates: Candidates) -> TokenSelection:
    """Each token alone, with p ∝ c_i |A_i| (1 - rollout probability), capped at 1 and floored."""
    surprisal = _surprisal(candidates, "importance")
    score = -torch.expm1(-surprisal)
    if candidates.advantages is not None:
        score = score * candidates.advantages.double().abs().unsqueeze(1)
    if candidates.token_weight is not None:
        score = score * candidates.token_weight.double().unsqueeze(1)
    real = candidates.real
    probability = torch.ones(real.shape, dtype=torch.float64, device=real.device)
    probability[real] = scaled_to_budget(score[real], torch.ones_like(score[real]), budget.fraction, budget.floor)
    keep = candidates.uniforms(*real.shape) < probability
    return make_selection(keep, probability, candidates.lengths)


def top_surprisal(budget: TopSurprisalBudget, candidates: Candidates) -> TokenSelection:
    """The share b of the step's tokens with the lowest rollout probability, unweighted: biased."""
    real = candidates.real
    flat = torch.where(real, _surprisal(candidates, "top_surprisal"), -torch.inf).flatten()
    count = math.ceil(int(real.sum()) * budget.fraction - _ROUNDING)
    keep = torch.zeros(flat.shape, dtype=torch.bool, device=flat.device)
    keep[torch.topk(flat, count).indices] = True
    ones = torch.ones(real.shape, dtype=torch.float64, device=real.device)
    return make_selection(keep.view(real.shape), ones, candidates.lengths, unbiased=False)


def _surprisal(candidates: Candidates, selector: str) -> Tensor:
    if candidates.surprisal is None:
        raise SpecError(
            f"budget.selector {selector} needs the rollout's log-probabilities, but this batch carries none; "
            "use an engine that returns them, or selector urs"
        )
    return candidates.surprisal.double()
