"""What one optimizer step trains on: completions that teach something, and a fresh selection of their tokens.

b live completions, T longest of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nat_core.batch import CompletionBatch
from nat_core.loss import StepTotals, completion_weights
from nat_core.model import Policy
from nat_core.spec import RunSpec
from nat_core.token_selection import Cumulative, GradientMass, TokenSelection, select_tokens


@dataclass(frozen=True)
class Step:
    """The live rows that one optimizer step trains on.

    Attributes:
        live: Long [b], their indices in the rollout batch.
        rows: the rows themselves.
        totals: what the denominators count, dead rows included.
        selection: the tokens kept of them.
        old_logprobs: Float [b, T] where kept; None where the old policy is the one that is trained, detached.
    """

    live: Tensor
    rows: CompletionBatch
    totals: StepTotals
    selection: TokenSelection
    old_logprobs: Tensor | None = None


def draw_step(
    policy: Policy,
    batch: CompletionBatch,
    spec: RunSpec,
    generator: torch.Generator,
    law_state: GradientMass | None = None,
    selection: TokenSelection | None = None,
) -> Step:
    """The live rows with a fresh selection of their tokens, or with the one given."""
    live = batch.live(spec)
    rows, totals = batch.rows(live), batch.totals(spec)
    if selection is None:
        lengths, logprobs = rows.lengths, rows.padded_rollout_logprobs
        selection = select_tokens(
            spec.budget,
            lengths,
            generator=generator,
            advantages=rows.advantages,
            surprisal=None if logprobs is None else -logprobs,
            token_weight=completion_weights(spec.objective, lengths.double(), totals),
            cost=_cost(policy, rows) if spec.budget.needs_cost else None,
            law_state=law_state,
        )
    return Step(live, rows, totals, selection)


def _cost(policy: Policy, rows: CompletionBatch) -> Cumulative:
    """FLOPs of training on each completion as far as a position; packed rows share a pass over their prompt."""
    sharers = rows.prompt_sharers.unsqueeze(1) if policy.layout == "packed" else 1
    return policy.token_cost.of_completions(rows.prompt_lengths.unsqueeze(1).double(), sharers)
