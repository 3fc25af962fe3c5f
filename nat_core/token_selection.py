"""Which generated tokens are trained on, and with what probability.

A selector draws keep indicators s[i, t] with known inclusion probabilities p[i, t] > 0, so that
sum c_i (s/p) loss is a Horvitz-Thompson estimate of the full loss: unbiased, gradient included
(NAT, arXiv 2603.06619). p depends on lengths alone here, never on anything the step's gradient
changes. `truncate` is the biased contrast: its p is 1 or 0 and it is not reweighted.

Shapes: B completions, T longest completion. Positions count from 1 in the maths, from 0 in tensors.
Adding a selector: a budget class in `spec.py`, one function and one row of `SELECTORS` here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nat_core.errors import SpecError
from nat_core.spec import BudgetSpec, FullBudget, RpcBudget, TruncateBudget, UrsBudget


@dataclass(frozen=True)
class TokenSelection:
    """The tokens of one optimizer step.

    Attributes:
        keep: Bool [B, T], False on padding.
        inclusion_prob: float64 [B, T], P(keep); 1 on padding and for biased selectors.
        kept_length: Long [B], last kept position (1-based), 0 where nothing is kept: the trunk runs that far.
        lengths: Long [B], full completion lengths.
        unbiased: whether weighting by 1/p makes the loss unbiased.
    """

    keep: Tensor
    inclusion_prob: Tensor
    kept_length: Tensor
    lengths: Tensor
    unbiased: bool

    @cached_property
    def weights(self) -> Tensor:
        """Horvitz-Thompson weights keep / inclusion_prob, float64 [B, T]."""
        return self.keep / self.inclusion_prob

    @property
    def num_kept(self) -> int:
        return int(self.keep.sum())

    @property
    def fraction(self) -> float:
        """Share of these completions' tokens that is kept; 0 when there are none."""
        total = int(self.lengths.sum())
        return self.num_kept / total if total else 0.0

    @property
    def max_weight(self) -> float:
        return float(self.weights.max()) if self.weights.numel() else 0.0

    @property
    def effective_sample_size(self) -> float:
        """(sum of weights)^2 / sum of squared weights, as a share of the kept tokens; 0 when none is kept."""
        squares = float(self.weights.square().sum())
        return float(self.weights.sum()) ** 2 / (squares * self.num_kept) if squares else 0.0

    def rows(self, index: Tensor) -> TokenSelection:
        """The selection of some completions; `index` Long [b]."""
        return TokenSelection(
            self.keep[index], self.inclusion_prob[index], self.kept_length[index], self.lengths[index], self.unbiased
        )

    def union(self, other: TokenSelection) -> Tensor:
        """Bool [B, T]: tokens that either selection keeps."""
        return self.keep | other.keep


def select_tokens(
    budget: BudgetSpec,
    lengths: Tensor,
    *,
    generator: torch.Generator,
    advantages: Tensor | None = None,
    surprisal: Tensor | None = None,
    token_weight: Tensor | None = None,
    cost: Tensor | None = None,
    law_state: Any = None,
) -> TokenSelection:
    """Draw the tokens of one optimizer step.

    Args:
        budget: what to keep; see the table in docs/method.md.
        lengths: Long [B], full completion lengths; 0 is allowed and keeps nothing.
        generator: the selector's own seeded generator.
        advantages, surprisal, token_weight, cost, law_state: what selectors may draw on beside lengths (group
            advantages Float [B], rollout surprisal Float [B, T], c_i Float [B], cost per position Float [B, T],
            running estimates). None of today's selectors reads them.

    Returns:
        A `TokenSelection` on the device of `lengths`.

    Raises:
        SpecError: when a length is negative.
    """
    if lengths.numel() and int(lengths.min()) < 0:
        raise SpecError(f"lengths holds {int(lengths.min())}, but a completion has 0 tokens or more; check the rollout")
    return SELECTORS[budget.selector](budget, lengths, generator)


# --- helpers --------------------------------------------------------------------------------------


def _positions(lengths: Tensor) -> Tensor:
    """Float64 [1, T]: 1, 2, … up to the longest completion."""
    longest = int(lengths.max()) if lengths.numel() else 0
    return torch.arange(1, longest + 1, device=lengths.device, dtype=torch.float64).unsqueeze(0)


def _uniforms(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64).to(device)


def _selection(keep: Tensor, probability: Tensor, lengths: Tensor, *, unbiased: bool = True) -> TokenSelection:
    """Mask padding and find how far the trunk must run."""
    positions = _positions(lengths)
    real = positions <= lengths.unsqueeze(1)
    keep = keep & real
    probability = torch.where(real, probability, torch.ones_like(probability))
    kept_length = (keep * positions).amax(dim=1).long() if keep.shape[1] else torch.zeros_like(lengths)
    return TokenSelection(keep, probability, kept_length, lengths, unbiased)


def _ones(lengths: Tensor) -> Tensor:
    return torch.ones(lengths.shape[0], _positions(lengths).shape[1], dtype=torch.float64, device=lengths.device)


# --- full, urs, truncate --------------------------------------------------------------------------


def _full(budget: FullBudget, lengths: Tensor, generator: torch.Generator) -> TokenSelection:
    ones = _ones(lengths)
    return _selection(ones.bool(), ones, lengths)


def _urs(budget: UrsBudget, lengths: Tensor, generator: torch.Generator) -> TokenSelection:
    probability = _ones(lengths) * budget.fraction
    keep = _uniforms(tuple(probability.shape), generator, lengths.device) < probability
    return _selection(keep, probability, lengths)


def _truncate(budget: TruncateBudget, lengths: Tensor, generator: torch.Generator) -> TokenSelection:
    cut = torch.ceil(lengths.double() * budget.fraction - _ROUNDING)
    return _selection(_positions(lengths) <= cut.unsqueeze(1), _ones(lengths), lengths, unbiased=False)


# --- random prefix cuts ---------------------------------------------------------------------------

_ROUNDING = 1e-9  # keeps ceil(0.6 * 10) at 6 when the product is 6.000000000000001


def cut_lengths(budget: RpcBudget, lengths: Tensor, uniforms: Tensor) -> Tensor:
    """Where completions are cut: a pure function of uniforms, law and lengths.

    Args:
        lengths: Long [B].
        uniforms: float64 [B] in [0, 1).

    Returns:
        Long [B], K in 0..T with P(K >= t) = S(t) of `survival`.
    """
    length = lengths.double()
    if budget.law == "uniform":
        always = _always_kept(budget.fraction, length)
        cut = always + torch.floor(uniforms * (length - always + 1))
    else:
        high, low = linear_ends(budget.fraction)
        if high == low:
            cut = torch.where(uniforms < high, length, torch.zeros_like(length))
        else:
            cut = torch.floor(0.5 + length * (high - uniforms) / (high - low))
    return torch.minimum(cut.clamp(min=0), length).long()


def survival(budget: RpcBudget, lengths: Tensor) -> Tensor:
    """S(t) = P(K >= t), float64 [B, T]; what stands beyond a completion's length has no meaning.

    `uniform`: 1 up to C, then (T-t+1)/(T-C+1) with C = max(1, ceil((2b-1)T)); the plain reading of the paper.
    `linear`: s0 - (s0-p_min)(t-1/2)/T with s0 = min(1, 1.6b), p_min = 2b-s0: mean exactly b for every T.
    """
    length, position = lengths.double().unsqueeze(1), _positions(lengths)
    if budget.law == "uniform":
        always = _always_kept(budget.fraction, length)
        tail = (length - position + 1) / (length - always + 1)
        return torch.where(position <= always, torch.ones_like(tail), tail)
    high, low = linear_ends(budget.fraction)
    return high - (high - low) * (position - 0.5) / length.clamp(min=1)


def linear_ends(fraction: float) -> tuple[float, float]:
    """(s0, p_min): survival at the start and the end of a completion under the `linear` law."""
    high = min(1.0, 1.6 * fraction)
    return high, 2 * fraction - high


def _always_kept(fraction: float, length: Tensor) -> Tensor:
    return torch.ceil((2 * fraction - 1) * length - _ROUNDING).clamp(min=1)


def _rpc(budget: RpcBudget, lengths: Tensor, generator: torch.Generator) -> TokenSelection:
    cuts = cut_lengths(budget, lengths, _uniforms((lengths.shape[0],), generator, lengths.device))
    return _selection(_positions(lengths) <= cuts.unsqueeze(1), survival(budget, lengths), lengths)


SELECTORS: dict[str, Callable[[Any, Tensor, torch.Generator], TokenSelection]] = {
    "full": _full,
    "urs": _urs,
    "rpc": _rpc,
    "truncate": _truncate,
}
