"""What `law: optimal` learns from: where along a completion the gradient lies.

A token's share of the gradient is taken as (c |A| (1 - π))²: its weight in the loss times how far
its probability is from certain. Only kept tokens are seen, so each counts 1/p times: the running
sums are unbiased whatever the law was that chose them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nat_core.token_selection.cumulative import by_relative_position, cumulative
from nat_core.token_selection.selection import TokenSelection

BINS = 64
DECAY = 0.9  # of a step's estimate with each later one: about the last ten steps count


class GradientMass:
    """Running estimate of squared gradient mass by relative position, from finished steps only.

    Attributes:
        estimate: float64 [BINS], None before the first finished step.
    """

    def __init__(self) -> None:
        self.estimate: Tensor | None = None
        self._step = torch.zeros(BINS, dtype=torch.float64)

    def observe(self, selection: TokenSelection, logprobs: Tensor, scale: Tensor) -> None:
        """Take note of some completions of the step that is under way.

        Args:
            selection: the kept tokens of these completions.
            logprobs: Float [B, T], the trainer's, right where kept.
            scale: Float [B], c_i |A_i|.
        """
        distance = -torch.expm1(logprobs.double())
        mass = torch.where(selection.keep, selection.weights * (scale.double().unsqueeze(1) * distance).square(), 0.0)
        by_bin = by_relative_position(cumulative(mass, selection.lengths), selection.lengths, BINS)
        self._step += by_bin.to(self._step.device)

    def pool(self, total: Callable[[Tensor], Tensor]) -> None:
        """Take what all ranks observed of the step that is under way, so that their laws stay the same."""
        self._step = total(self._step)

    def finish_step(self) -> None:
        """From here on what was observed counts."""
        self.estimate = self._step if self.estimate is None else DECAY * self.estimate + (1 - DECAY) * self._step
        self._step = torch.zeros_like(self._step)

    def forget_step(self) -> None:
        """What was observed of the step that is under way does not count: it is done over."""
        self._step = torch.zeros_like(self._step)

    def state_dict(self) -> dict[str, list[float] | None]:
        """What a checkpoint keeps, exactly: plain JSON."""
        return {"estimate": None if self.estimate is None else self.estimate.tolist()}

    def load_state_dict(self, state: dict[str, list[float] | None]) -> None:
        estimate = state["estimate"]
        self.estimate = None if estimate is None else torch.tensor(estimate, dtype=torch.float64)
