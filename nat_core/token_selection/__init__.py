"""Which generated tokens are trained on, and with what probability.

A selector draws keep indicators s[i, t] with known inclusion probabilities p[i, t] > 0, so that
sum c_i (s/p) loss is a Horvitz-Thompson estimate of the full loss: unbiased, gradient included
(NAT, arXiv 2603.06619). p may depend on lengths, advantages and rollout-time log-probabilities, never
on anything the step's own gradient changes. `truncate` and `top_surprisal` are biased contrasts:
they keep or drop for sure and are not reweighted.

Positions count from 1 in the maths, from 0 in tensors. Adding a selector: a budget class in
`spec/budget.py`, one function in `prefix`, `single` or `whole`, one row of `SELECTORS` here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nat_core.errors import SpecError
from nat_core.spec import BudgetSpec
from nat_core.token_selection import prefix, single, whole
from nat_core.token_selection.cumulative import Cumulative, cumulative
from nat_core.token_selection.gradient_mass import GradientMass
from nat_core.token_selection.selection import Candidates, DenseSelection, TokenSelection

__all__ = ["SELECTORS", "Candidates", "Cumulative", "DenseSelection", "GradientMass", "TokenSelection", "select_tokens"]

SELECTORS: dict[str, Callable[[Any, Candidates], TokenSelection]] = {
    "full": whole.full,
    "urs": single.urs,
    "rpc": prefix.rpc,
    "completions": whole.completions,
    "importance": single.importance,
    "truncate": whole.truncate,
    "top_surprisal": single.top_surprisal,
}


def select_tokens(
    budget: BudgetSpec,
    lengths: Tensor,
    *,
    generator: torch.Generator,
    advantages: Tensor | None = None,
    surprisal: Tensor | None = None,
    token_weight: Tensor | None = None,
    cost: Tensor | Cumulative | None = None,
    law_state: GradientMass | None = None,
) -> TokenSelection:
    """Draw the tokens of one optimizer step.

    Args:
        budget: what to keep; see the table in docs/selectors.md.
        lengths: Long [B], full completion lengths; 0 is allowed and keeps nothing.
        generator: the selector's own seeded generator.
        advantages: Float [B], for `completions` and `importance`.
        surprisal: Float [B, T], minus the rollout's log-probabilities, for `importance` and `top_surprisal`.
        token_weight: Float [B], c_i of the loss, for `completions` and `importance`.
        cost: what training on each position costs, the prompt counted with the first, for `completions` and `rpc` with
            law `optimal`: Float [B, T], or the total as far as given positions as a function (see `cumulative.py`).
        law_state: where the gradient lay in earlier steps, for `rpc` with law `optimal`, which is `linear` without it.

    Returns:
        A `TokenSelection` on the device of `lengths`.

    Raises:
        SpecError: a length is negative, or the selector needs log-probabilities that are not there.
    """
    if lengths.numel() and int(lengths.min()) < 0:
        raise SpecError(f"lengths holds {int(lengths.min())}, but a completion has 0 tokens or more; check the rollout")
    mass = None if law_state is None else law_state.estimate
    total_cost = cumulative(cost, lengths) if isinstance(cost, Tensor) else cost
    candidates = Candidates(lengths, generator, advantages, surprisal, token_weight, total_cost, mass)
    return SELECTORS[budget.selector](budget, candidates)
