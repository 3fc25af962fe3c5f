"""What a selector returns, and what it is given. B completions, T longest completion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nat_core.token_selection.cumulative import Cumulative

_CHUNK = 2**20  # tokens whose weights exist at the same time while sums over all of them are taken


class TokenSelection(ABC):
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

    @property
    @abstractmethod
    def num_kept(self) -> int: ...

    @property
    @abstractmethod
    def max_weight(self) -> float:
        """Largest weight among the kept tokens; 0 when none is kept."""

    @abstractmethod
    def rows(self, index: Tensor) -> TokenSelection:
        """The selection of some completions, T as before; `index` Long [b]."""

    @abstractmethod
    def to(self, device: torch.device) -> TokenSelection:
        """The same selection on another device."""

    @property
    def weights(self) -> Tensor:
        """Horvitz-Thompson weights keep / inclusion_prob, float64 [B, T]."""
        return self.keep / self.inclusion_prob

    @property
    def fraction(self) -> float:
        """Share of these completions' tokens that is kept; 0 when there are none."""
        total = int(self.lengths.sum())
        return self.num_kept / total if total else 0.0

    @property
    def keeps_whole_completions(self) -> bool:
        """Whether every completion is kept whole or dropped whole."""
        counts = self.keep.sum(dim=1)
        return bool(((counts == 0) | (counts == self.lengths)).all())

    @cached_property
    def effective_sample_size(self) -> float:
        """(sum of weights)^2 / sum of squared weights, as a share of the kept tokens; 0 when none is kept."""
        total = squares = 0.0
        at_once = max(1, _CHUNK // max(int(self.lengths.max()), 1)) if self.lengths.numel() else 1
        for index in torch.arange(self.lengths.shape[0], device=self.lengths.device).split(at_once):
            weights = self.rows(index).weights
            total, squares = total + float(weights.sum()), squares + float(weights.square().sum())
        return total**2 / (squares * self.num_kept) if squares else 0.0


@dataclass(frozen=True)
class DenseSelection(TokenSelection):
    """A selection of any tokens, told token by token."""

    keep: Tensor
    inclusion_prob: Tensor
    kept_length: Tensor
    lengths: Tensor
    unbiased: bool

    @property
    def num_kept(self) -> int:
        return int(self.keep.sum())

    @property
    def max_weight(self) -> float:
        return float(self.weights.max()) if self.keep.numel() else 0.0

    def rows(self, index: Tensor) -> DenseSelection:
        return DenseSelection(
            self.keep[index], self.inclusion_prob[index], self.kept_length[index], self.lengths[index], self.unbiased
        )

    def to(self, device: torch.device) -> DenseSelection:
        return DenseSelection(
            self.keep.to(device),
            self.inclusion_prob.to(device),
            self.kept_length.to(device),
            self.lengths.to(device),
            self.unbiased,
        )


@dataclass(frozen=True)
class Candidates:
    """What a selector may look at: nothing that the same step's gradient changes.

    Attributes:
        lengths: Long [B].
        generator: the selector's own.
        advantages: Float [B], |A_i| matters.
        surprisal: Float [B, T], minus the rollout's log-probability of each token.
        token_weight: Float [B], c_i of the loss.
        cost: what training on a completion as far as a position costs; the prompt counts with the first token.
        gradient_mass: Float64 [bins], squared gradient mass by relative position, from earlier steps.
    """

    lengths: Tensor
    generator: torch.Generator
    advantages: Tensor | None = None
    surprisal: Tensor | None = None
    token_weight: Tensor | None = None
    cost: Cumulative | None = None
    gradient_mass: Tensor | None = None

    @property
    def real(self) -> Tensor:
        """Bool [B, T], False on padding."""
        return positions(self.lengths) <= self.lengths.unsqueeze(1)

    def uniforms(self, *shape: int) -> Tensor:
        """float64 in [0, 1) from the selector's generator."""
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device, dtype=torch.float64)
        return drawn.to(self.lengths.device)


def positions(lengths: Tensor) -> Tensor:
    """Float64 [1, T]: 1, 2, … up to the longest completion."""
    longest = int(lengths.max()) if lengths.numel() else 0
    return torch.arange(1, longest + 1, device=lengths.device, dtype=torch.float64).unsqueeze(0)


def make_selection(keep: Tensor, probability: Tensor, lengths: Tensor, *, unbiased: bool = True) -> DenseSelection:
    """Mask padding in `keep` and `probability` [B, T], and find how far the trunk must run."""
    place = positions(lengths)
    real = place <= lengths.unsqueeze(1)
    keep = keep & real
    probability = torch.where(real, probability, torch.ones_like(probability))
    kept_length = (keep * place).amax(dim=1).long() if keep.shape[1] else torch.zeros_like(lengths)
    return DenseSelection(keep, probability, kept_length, lengths, unbiased)
