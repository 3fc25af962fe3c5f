"""What the draws of one budget add up to."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from nat_core.spec import BudgetSpec


@dataclass(frozen=True)
class Spent:
    """What one draw cost, counted."""

    flops: float
    trunk_tokens: float
    kept_share: float


@dataclass
class Tally:
    """Sums over the draws of one budget; gradients are Float [parameters], as precise as the full gradient.

    Attributes:
        full: the full gradient G.
        total: sum of the drawn gradients g.
        square_errors: |g - G|² / |G|² of each draw.
    """

    budget: BudgetSpec
    full: Tensor
    total: Tensor = field(init=False)
    square_errors: list[float] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.total = torch.zeros_like(self.full)

    def add(self, gradient: Tensor, spent: Spent) -> None:
        self.total += gradient
        self.square_errors.append(float((gradient - self.full).square().sum() / self.full.square().sum()))
        self.cosines.append(float(torch.cosine_similarity(gradient, self.full, dim=0)))
        self.spent.append(spent)

    def row(self, full_flops: float) -> dict[str, Any]:
        """The statistics, with FLOPs as a share of `full_flops`.

        `error_of_mean` is |mean g - G| / |G|; `noise_of_mean` is what the variance alone leaves of it after these
        draws, (variance / draws)^½: about the same for an unbiased budget, and less than it for a biased one.
        """
        draws, flops, trunk = len(self.spent), [s.flops for s in self.spent], [s.trunk_tokens for s in self.spent]
        variance = fmean(self.square_errors)
        return {
            "draws": draws,
            "relative_variance": variance,
            "relative_variance_se": stdev(self.square_errors) / draws**0.5,
            "cosine": fmean(self.cosines),
            "error_of_mean": float((self.total / draws - self.full).norm() / self.full.norm()),
            "noise_of_mean": (variance / draws) ** 0.5,
            "kept_share": fmean(s.kept_share for s in self.spent),
            "flops_share": fmean(flops) / full_flops,
            "flops_cv": stdev(flops) / fmean(flops),
            "trunk_tokens": fmean(trunk),
            "trunk_tokens_cv": stdev(trunk) / fmean(trunk),
        }
