"""Running totals along completions, as functions: how much lies before a position, whole or fractional.

What each position costs is a polynomial of few numbers a completion, so a total is asked for where it is
needed and never laid out as [B, T].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Cumulative = Callable[[Tensor], Tensor]
"""Positions float64 [B, n], 0 to each completion's length → float64 [B, n]: the total over all before them."""


def cumulative(values: Tensor, lengths: Tensor) -> Cumulative:
    """Running totals of values that are given token by token; a token is split where a position falls inside it.

    Args:
        values: Float [B, T]; padding is left out.
        lengths: Long [B].
    """
    real = torch.arange(values.shape[1], device=values.device) < lengths.unsqueeze(1)
    running = torch.nn.functional.pad(torch.where(real, values, 0.0).double().cumsum(dim=1), (1, 0))

    def before(positions: Tensor) -> Tensor:
        below = positions.floor().long()
        above = torch.minimum(below + 1, lengths.unsqueeze(1))
        return torch.lerp(running.gather(1, below), running.gather(1, above), positions - below)

    return before


def by_relative_position(total: Cumulative, lengths: Tensor, bins: int) -> Tensor:
    """How much of all completions lies in each of equal parts of their lengths.

    Args:
        total: of each completion.
        lengths: Long [B].

    Returns:
        float64 [bins]; empty completions add nothing.
    """
    edges = torch.arange(bins + 1, device=lengths.device, dtype=torch.float64) / bins * lengths.unsqueeze(1)
    before = total(edges).sum(dim=0)
    return before[1:] - before[:-1]
