"""Random prefix cuts: the law of one cut, and the coupling of the cuts of a step.

A cut is a pure function of a uniform number, the law and the length; a coupling is a pure function
from few base uniforms to one uniform a completion. So coupled designs can be enumerated between
their breakpoints, and 1,024 cuts need 1,024 random numbers at most, never [B, T].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nat_core.spec import RpcBudget
from nat_core.token_selection.selection import Candidates, TokenSelection, make_selection, positions

_ROUNDING = 1e-9  # keeps ceil(0.6 * 10) at 6 when the product is 6.000000000000001
_GOLDEN = (5**0.5 - 1) / 2  # steps of this size around the circle are spread most evenly


def rpc(budget: RpcBudget, candidates: Candidates) -> TokenSelection:
    """Keep tokens 1..K of every completion."""
    lengths = candidates.lengths
    coupling = COUPLINGS[budget.coupling]
    base = candidates.uniforms(coupling.num_base(lengths.shape[0]))
    cuts = cut_lengths(budget, lengths, coupling.spread(base, lengths))
    return make_selection(positions(lengths) <= cuts.unsqueeze(1), survival(budget, lengths), lengths)


# --- laws -----------------------------------------------------------------------------------------


def cut_lengths(budget: RpcBudget, lengths: Tensor, uniforms: Tensor) -> Tensor:
    """Where completions are cut.

    Args:
        lengths: Long [B].
        uniforms: float64 [B] in [0, 1].

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
            cut = torch.where(uniforms <= high, length, torch.zeros_like(length))
        else:
            cut = torch.floor(0.5 + length * (high - uniforms) / (high - low))
    return torch.minimum(cut.clamp(min=0), length).long()


def survival(budget: RpcBudget, lengths: Tensor) -> Tensor:
    """S(t) = P(K >= t), float64 [B, T]; what stands beyond a completion's length has no meaning.

    `uniform`: 1 up to C, then (T-t+1)/(T-C+1) with C = max(1, ceil((2b-1)T)); the plain reading of the paper.
    `linear`: s0 - (s0-p_min)(t-1/2)/T with s0 = min(1, 1.6b), p_min = 2b-s0: mean exactly b for every T.
    """
    length, position = lengths.double().unsqueeze(1), positions(lengths)
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
