"""Inclusion probabilities proportional to a score, within bounds, at a given expected cost."""

from __future__ import annotations

import torch
from torch import Tensor

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
    return (_scale(score, cost, fraction, floor * fraction) * score).clamp(floor * fraction, 1.0)


def _scale(score: Tensor, cost: Tensor, fraction: float, lowest: float) -> Tensor:
    """The scale at which sum clip(scale * score, lowest, 1) * cost is the share `fraction` of sum cost.

    That sum does not fall as the scale rises, and is straight between the scales at which some unit leaves the floor
    or reaches the cap: read it off at all of those, and solve on the straight piece that crosses the target.
    """
    score, order = score.sort()
    cost = cost[order]
    zero = cost.new_zeros(1)
    costs, scored = torch.cat([zero, cost.cumsum(0)]), torch.cat([zero, (score * cost).cumsum(0)])
    scales = torch.cat([lowest / score, 1 / score]).sort().values
    floored = torch.searchsorted(score, lowest / scales)
    uncapped = torch.searchsorted(score, 1 / scales)
    spent = lowest * costs[floored] + scales * (scored[uncapped] - scored[floored]) + costs[-1] - costs[uncapped]
    after = int((spent < fraction * costs[-1]).sum().clamp(1, len(scales) - 1))
    left, right = spent[after - 1], spent[after]
    share = ((fraction * costs[-1] - left) / (right - left)).nan_to_num(1.0).clamp(0, 1)
    return torch.lerp(scales[after - 1], scales[after], share)
