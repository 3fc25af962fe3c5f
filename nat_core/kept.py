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
from nat_core.out_of_memory import run_or_halve
from nat_core.spec import ResourcesSpec, RunSpec
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


def with_old_logprobs(policy: Policy, steps: list[Step], spec: RunSpec) -> tuple[list[Step], str | None]:
    """The steps on one rollout batch, with the log-probabilities from before the first of them; and a warning, if any.

    A single step needs none. Else they are the rollout's own; where the engine gave none, or its numbers are to be
    corrected for (`rollout_is`), one pass over the tokens that any of the steps keeps.
    """
    if len(steps) == 1:
        return steps, None
    old, warning = steps[0].rows.padded_rollout_logprobs, None
    if old is None or spec.objective.rollout_is != "none":
        old, warning = _pass_over_union(policy, steps, spec)
    return [replace(step, old_logprobs=old) for step in steps], warning


@torch.no_grad()
def _pass_over_union(policy: Policy, steps: list[Step], spec: RunSpec) -> tuple[Tensor, str | None]:
    """Log-probabilities of every token that any of the steps keeps: Float [b, T], 0 elsewhere."""
    rows, selections = steps[0].rows, [step.selection for step in steps]
    keep = torch.stack([selection.keep for selection in selections]).any(dim=0)
    kept_length = torch.stack([selection.kept_length for selection in selections]).amax(dim=0)
    union = DenseSelection(keep, torch.ones_like(keep, dtype=torch.float64), kept_length, rows.lengths, False)
    shares = share_out(policy, rows, union)

    def run(plan: list[MicroBatch]) -> Tensor:
        old = torch.zeros(keep.shape)
        for micro in plan:
            logprobs, _ = kept_logprobs(policy, micro, keep[micro.rows], spec)
            old = old.to(logprobs.dtype)
            old[micro.rows] = logprobs.cpu()
        return old

    def plan_for(resources: ResourcesSpec) -> list[MicroBatch]:
        return plan_passes(policy, rows, union, resources, shares)

    old, warning = run_or_halve(policy, spec.resources, plan_for, run)
    return policy.ranks.total(old), warning
