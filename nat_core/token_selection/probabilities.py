"""Inclusion probabilities proportional to a score, within bounds, at a given expected cost."""

from __future__ import annotations

import torch
from torch import Tensor

_HALVINGS = 70  # of an interval of about 30 in the logarithm: to the last bits of a float64
_SMALLEST = 1e-12


def scaled_to_budget(score: Tensor, cost: Tensor, fraction: float, floor: float) -> Tensor:
    """p = clip(scale * score, floor * fraction, 1) with sum p * cost = fraction * sum cost.

    Args:
        score: float64 [N], >= 0; how much each unit matters.
        cost: float64 [N], >= 0; what keeping it costs.
        fraction: expected share of the cost that is kept.
        floor: smallest p, as a share of `fraction`; it bounds every weight by 1 / (floor * fraction).

    Returns:
        float64 [N]. With all scores equal (or all 0) p is `fraction` everywhere.
    """
    if not score.numel():
        return score
    largest = score.max()
    if float(largest) == 0 or fraction == 1:
        return torch.full_like(score, fraction)
    # Units without a score get the floor; a tiny share of the largest keeps every scale finite.
    score = (score / largest).clamp(min=_SMALLEST)
    target, lowest = fraction * cost.sum(), floor * fraction
    # What is spent grows with the scale: at the floor it is too little, with everything capped too much.
    low, high = (
        torch.as_tensor(bound, dtype=score.dtype, device=score.device).log() for bound in (lowest, 1 / _SMALLEST)
    )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        too_little = ((middle.exp() * score).clamp(lowest, 1.0) * cost).sum() < target
        low, high = torch.where(too_little, middle, low), torch.where(too_little, high, middle)
    return (high.exp() * score).clamp(lowest, 1.0)
