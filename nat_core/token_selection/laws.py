"""Laws of a prefix cut: the chance S(t) = P(K >= t) that a completion is kept as far as token t.

A law answers two questions, both without a random number of its own: how likely is each position
kept, and where does a given uniform number cut? T is a completion's length, positions count from 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from nat_core.spec import RpcBudget
from nat_core.token_selection.cumulative import by_relative_position
from nat_core.token_selection.probabilities import scaled_to_budget
from nat_core.token_selection.selection import Candidates

_NO_COST = 1e-9  # of the mean: positions that cost nothing still need a finite share
_ROUNDING = 1e-9  # keeps ceil(0.6 * 10) at 6 when the product is 6.000000000000001


class Law(Protocol):
    """How likely a completion is kept as far as a position."""

    def survival(self, length: Tensor, position: Tensor) -> Tensor:
        """S(t), float64; `length` and `position` broadcast. Positions beyond the length have no meaning."""

    def cut(self, length: Tensor, uniform: Tensor) -> Tensor:
        """K in 0..T with P(K >= t) = S(t) for a uniform number: Long, of float64 [B] each."""


@dataclass(frozen=True)
class UniformLaw:
    """A cut uniform on {C..T}, the plain reading of the paper: S is 1 up to C, then (T-t+1)/(T-C+1).

    C = max(1, ceil((2b-1)T)), so b must be 1/2 or more.
    """

    fraction: float

    def survival(self, length: Tensor, position: Tensor) -> Tensor:
        always = self._always_kept(length)
        tail = (length - position + 1) / (length - always + 1)
        return torch.where(position <= always, torch.ones_like(tail), tail)

    def cut(self, length: Tensor, uniform: Tensor) -> Tensor:
        always = self._always_kept(length)
        return torch.minimum(always + torch.floor(uniform * (length - always + 1)), length).long()

    def _always_kept(self, length: Tensor) -> Tensor:
        return torch.ceil((2 * self.fraction - 1) * length - _ROUNDING).clamp(min=1)


@dataclass(frozen=True)
class LinearLaw:
    """S(t) = s0 - (s0-p_min)(t-1/2)/T: mean exactly b for every T, no weight above 1/p_min."""

    fraction: float

    @property
    def ends(self) -> tuple[float, float]:
        """(s0, p_min), survival at the start and the end: min(1, 1.6b) and 2b - s0."""
        high = min(1.0, 1.6 * self.fraction)
        return high, 2 * self.fraction - high

    def survival(self, length: Tensor, position: Tensor) -> Tensor:
        high, low = self.ends
        return high - (high - low) * (position - 0.5) / length.clamp(min=1)

    def cut(self, length: Tensor, uniform: Tensor) -> Tensor:
        high, low = self.ends
        if high == low:
            cut = torch.where(uniform <= high, length, torch.zeros_like(length))
        else:
            cut = torch.floor(0.5 + length * (high - uniform) / (high - low))
        return torch.minimum(cut.clamp(min=0), length).long()


@dataclass(frozen=True)
class CurveLaw:
    """Survival read off a non-increasing curve over relative position, constant within each of its bins.

    S(t) is the curve's mean over ((t-1)/T, t/T], so that the mean over a completion is the curve's own for every T.

    Attributes:
        curve: float64 [bins], non-increasing.
    """

    curve: Tensor

    @cached_property
    def _edges(self) -> Tensor:
        """The curve's integral from 0 to each edge of its bins, float64 [bins + 1]."""
        return torch.cat([self.curve.new_zeros(1), (self.curve / len(self.curve)).cumsum(0)])

    def survival(self, length: Tensor, position: Tensor) -> Tensor:
        length = length.clamp(min=1)
        share = length * (self._integral(position / length) - self._integral((position - 1) / length))
        return share.clamp(max=1.0)  # the difference of two integrals can be 1 + 1e-16

    def cut(self, length: Tensor, uniform: Tensor) -> Tensor:
        """Tokens wholly before the edge where the curve falls to u are kept, the token across it where S(t) > u."""
        bins, curve = len(self.curve), self.curve.to(uniform.device)
        above = bins - torch.searchsorted(curve.flip(0), uniform, right=True)
        before = torch.floor(length * above / bins)
        across = torch.minimum(before + 1, length)
        return torch.where(self.survival(length, across) > uniform, across, before).long()

    def _integral(self, share: Tensor) -> Tensor:
        edges = self._edges.to(share.device)
        bins = len(edges) - 1
        place = share.clamp(0, 1) * bins
        below = place.floor().clamp(max=bins - 1).long()
        return torch.lerp(edges[below], edges[below + 1], place - below)


def optimal_law(budget: RpcBudget, candidates: Candidates) -> Law:
    """The law with the least variance for its cost, as far as earlier steps can tell.

    The variance of the gradient is sum a_t / S(t) with a_t the squared gradient mass at t, the cost sum cost_t S(t):
    least for S ∝ sqrt(a_t / cost_t), made non-increasing by an isotonic fit weighted by cost, then scaled to mean b,
    capped at 1 and floored. Before the first step, when nothing is known, the linear law.
    """
    mass = candidates.gradient_mass
    if mass is None or float(mass.sum()) <= 0:
        return LinearLaw(budget.fraction)
    cost = torch.ones_like(mass)
    if candidates.cost is not None:
        by_bin = by_relative_position(candidates.cost, candidates.lengths, len(mass)).to(mass.device)
        cost = by_bin / by_bin.mean() if float(by_bin.sum()) > 0 else cost
    cost = cost.clamp(min=_NO_COST)
    shape = torch.sqrt(falling_fit(mass / cost, cost).clamp(min=0))
    curve = scaled_to_budget(shape, torch.ones_like(shape), budget.fraction, budget.floor)
    return CurveLaw(curve)


LAWS: dict[str, Callable[[RpcBudget, Candidates], Law]] = {
    "uniform": lambda budget, candidates: UniformLaw(budget.fraction),
    "linear": lambda budget, candidates: LinearLaw(budget.fraction),
    "optimal": optimal_law,
}


def falling_fit(values: Tensor, weights: Tensor) -> Tensor:
    """The non-increasing sequence nearest to `values` in weighted least squares (pool adjacent violators).

    Args:
        values, weights: Float [n], weights > 0.

    Returns:
        float64 [n].
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] < block[0]:
            mean, before, count = blocks.pop()
            total = before + block[1]
            block = ((mean * before + block[0] * block[1]) / total, total, count + block[2])
        blocks.append(block)
    fitted = [mean for mean, _, count in blocks for _ in range(count)]
    return torch.tensor(fitted, dtype=torch.float64, device=values.device)
