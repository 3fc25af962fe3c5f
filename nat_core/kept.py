"""Log-probabilities of kept tokens: those of a micro-batch, and the old policy's of all that a batch's steps keep.

b completions, T longest of the step.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nat_core.division import plan_passes, share_out
from nat_core.drawing import Step
from nat_core.logprobs import selected_logprobs
from nat_core.microbatch import MicroBatch
from nat_core.model import Policy
from nat_core.spec import RunSpec
from nat_core.token_selection import DenseSelection


def kept_logprobs(policy: Policy, micro: MicroBatch, keep: Tensor, spec: RunSpec) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of the kept tokens, 0 elsewhere: Float [b, T] each."""
    return policy.run(lambda: _kept_logprobs(policy, micro, keep, spec))


def _kept_logprobs(policy: Policy, micro: MicroBatch, keep: Tensor, spec: RunSpec) -> tuple[Tensor, Tensor]:
    row, position = keep.nonzero(as_tuple=True)
    with policy.attention_for(micro.tokens):
        hidden = policy.states(micro.tokens.to(policy.device))
    index = (row.to(policy.device), position.to(policy.device))
    logprobs, entropy = selected_logprobs(
        hidden[micro.predicted_at(row, position).to(policy.device)],
        micro.targets[row, position].to(policy.device),
        policy.head,
        temperature=spec.rollout.temperature,
        chunk_tokens=spec.resources.logprob_chunk_tokens,
        entropy_gradient=spec.objective.entropy_coef > 0,
    )
    blank = torch.zeros(keep.shape, dtype=logprobs.dtype, device=policy.device)
    return blank.index_put(index, logprobs), blank.index_put(index, entropy)


def with_old_logprobs(policy: Policy, steps: list[Step], spec: RunSpec) -> list[Step]:
    """The steps on one rollout batch, with the log-probabilities from before the first of them.

    A single step needs none. Else they are the rollout's own; where the engine gave none, or its numbers are to be
    corrected for (`rollout_is`), one pass over the tokens that any of the steps keeps.
    """
    if len(steps) == 1:
        return steps
    old = steps[0].rows.padded_rollout_logprobs
    if old is None or spec.objective.rollout_is != "none":
        old = _pass_over_union(policy, steps, spec)
    return [replace(step, old_logprobs=old) for step in steps]


@torch.no_grad()
def _pass_over_union(policy: Policy, steps: list[Step], spec: RunSpec) -> Tensor:
    """Log-probabilities of every token that any of the steps keeps: Float [b, T], 0 elsewhere."""
    rows, selections = steps[0].rows, [step.selection for step in steps]
    keep = torch.stack([selection.keep for selection in selections]).any(dim=0)
    kept_length = torch.stack([selection.kept_length for selection in selections]).amax(dim=0)
    union = DenseSelection(keep, torch.ones_like(keep, dtype=torch.float64), kept_length, rows.lengths, False)
    old = torch.zeros(keep.shape)
    for micro in plan_passes(policy, rows, union, spec.resources, share_out(policy, rows, union)):
        logprobs, _ = kept_logprobs(policy, micro, keep[micro.rows], spec)
        old = old.to(logprobs.dtype)
        old[micro.rows] = logprobs.cpu()
    return policy.ranks.total(old)
