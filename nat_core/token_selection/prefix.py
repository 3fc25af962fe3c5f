"""Random prefix cuts: a law says how likely each length is, a coupling how the cuts of a step go together.

A cut is a pure function of a uniform number, the law and the length; a coupling is a pure function
from few base uniforms to one uniform a completion. So coupled designs can be enumerated between
their breakpoints, and 1,024 cuts need 1,024 random numbers at most, never [B, T].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nat_core.spec import RpcBudget
from nat_core.token_selection.laws import LAWS, Law
from nat_core.token_selection.selection import Candidates, TokenSelection

_GOLDEN = (5**0.5 - 1) / 2  # steps of this size around the circle are spread most evenly


@dataclass(frozen=True)
class PrefixSelection(TokenSelection):
    """Tokens 1..K of every completion. What is [B, T] is made when it is asked for, of the rows it is asked of.

    Attributes:
        law: says how likely each position is kept.
        width: T.
    """

    kept_length: Tensor
    lengths: Tensor
    law: Law
    width: int
    unbiased: bool = True

    @cached_property
    def keep(self) -> Tensor:  # type: ignore[override]  # read-only here: made when asked for
        return self._positions <= self.kept_length.unsqueeze(1)

    @cached_property
    def inclusion_prob(self) -> Tensor:  # type: ignore[override]
        length = self.lengths.double().unsqueeze(1)
        survival = self.law.survival(length, self._positions)
        return torch.where(self._positions <= length, survival, torch.ones_like(survival))

    @property
    def num_kept(self) -> int:
        return int(self.kept_length.sum())

    @property
    def max_weight(self) -> float:
        cut = self.kept_length > 0
        if not bool(cut.any()):
            return 0.0
        last = self.law.survival(self.lengths[cut].double(), self.kept_length[cut].double())
        return 1 / float(last.min())  # the law does not rise, so each completion's last token weighs most

    def rows(self, index: Tensor) -> PrefixSelection:
        return PrefixSelection(self.kept_length[index], self.lengths[index], self.law, self.width)

    def to(self, device: torch.device) -> PrefixSelection:
        return PrefixSelection(self.kept_length.to(device), self.lengths.to(device), self.law, self.width)

    @property
    def _positions(self) -> Tensor:
        return torch.arange(1, self.width + 1, device=self.lengths.device, dtype=torch.float64).unsqueeze(0)


def rpc(budget: RpcBudget, candidates: Candidates) -> TokenSelection:
    """Keep tokens 1..K of every completion."""
    lengths = candidates.lengths
    law, coupling = LAWS[budget.law](budget, candidates), COUPLINGS[budget.coupling]
    base = candidates.uniforms(coupling.num_base(lengths.shape[0]))
    cuts = law.cut(lengths.double(), coupling.spread(base, lengths))
    return PrefixSelection(cuts, lengths, law, int(lengths.max()) if lengths.numel() else 0)


# --- couplings ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coupling:
    """How the cuts of a step go together; every completion's own uniform stays uniform.

    Attributes:
        num_base: how many base uniforms B completions need.
        spread: (base uniforms, lengths Long [B]) -> one uniform a completion, float64 [B].
    """

    num_base: Callable[[int], int]
    spread: Callable[[Tensor, Tensor], Tensor]


def _antithetic(base: Tensor, lengths: Tensor) -> Tensor:
    """u and 1-u on neighbours in length: where one is cut early the other is cut late."""
    return _in_order_of_length(torch.stack([base, 1 - base], dim=1).flatten()[: lengths.shape[0]], lengths)


def _systematic(base: Tensor, lengths: Tensor) -> Tensor:
    """(U + rank * 0.618…) mod 1 in order of length: any run of neighbours covers [0, 1) evenly."""
    ranks = torch.arange(lengths.shape[0], device=lengths.device, dtype=torch.float64)
    return _in_order_of_length((base + ranks * _GOLDEN) % 1, lengths)


def _in_order_of_length(values: Tensor, lengths: Tensor) -> Tensor:
    """Give the first value to the shortest completion, and so on."""
    order = torch.argsort(lengths, stable=True)
    return torch.empty_like(values).scatter(0, order, values)


COUPLINGS = {
    "iid": Coupling(lambda count: count, lambda base, lengths: base),
    "antithetic": Coupling(lambda count: (count + 1) // 2, _antithetic),
    "systematic": Coupling(lambda count: 1, _systematic),
}
