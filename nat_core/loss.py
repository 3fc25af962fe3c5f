"""The policy loss: clipped surrogate and KL per token, Horvitz-Thompson weighted, one denominator a step.

    L = sum_i c_i sum_t (s_it / p_it) (surrogate_it + beta k3_it)

1/p multiplies outside min and clip. c_i counts **full** lengths (`COMPLETION_WEIGHTS`), never kept
tokens, so that E[L] is the full loss. B completions, T longest completion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nat_core.spec import ObjectiveSpec
from nat_core.token_selection import TokenSelection


@dataclass(frozen=True)
class StepTotals:
    """What the denominators count: the whole optimizer step, all micro-batches, dead rows included."""

    tokens: int
    completions: int
    max_completion_length: int


# c_i by loss_type. `dapo` arXiv 2503.14476, `grpo` arXiv 2402.03300, `dr_grpo` arXiv 2503.20783.
COMPLETION_WEIGHTS: dict[str, Callable[[Tensor, StepTotals], Tensor]] = {
    "dapo": lambda lengths, totals: torch.full_like(lengths, 1 / max(totals.tokens, 1)),
    "grpo": lambda lengths, totals: 1 / (totals.completions * lengths.clamp(min=1)),
    "dr_grpo": lambda lengths, totals: torch.full_like(
        lengths, 1 / (totals.completions * totals.max_completion_length)
    ),
}


@dataclass(frozen=True)
class PolicyLoss:
    """Attributes:
    loss: scalar with graph, a part of the step's loss: parts of micro-batches add up.
    metrics: Horvitz-Thompson estimates of sums over these completions' tokens (`clip_ratio`, `kl`,
        `entropy` where asked for): they add up too; divide by the step's live tokens for means.
    """

    loss: Tensor
    metrics: dict[str, Tensor]


def policy_loss(
    objective: ObjectiveSpec,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    lengths: Tensor,
    selection: TokenSelection,
    *,
    ref_logprobs: Tensor | None = None,
    rollout_logprobs: Tensor | None = None,
    entropy: Tensor | None = None,
    truncated: Tensor | None = None,
    max_completion_length: int | None = None,
    total_tokens: int | None = None,
    num_completions: int | None = None,
) -> PolicyLoss:
    """Loss of some completions of an optimizer step.

    Args:
        objective: loss type, clips, beta.
        logprobs, old_logprobs: Float [B, T] of the sampling distribution; any finite value where not kept.
        advantages: Float [B].
        lengths: Long [B], full lengths.
        selection: the tokens kept of these completions, with their probabilities.
        ref_logprobs: Float [B, T], needed when `objective.beta` > 0.
        rollout_logprobs: accepted for engines that differ from the trainer; not used by these losses.
        entropy: Float [B, T], only reported.
        truncated: Bool [B], completions that hit the limit; they leave the loss when
            `mask_truncated_completions` is set (and `dapo`'s token total, as in TRL 1.16, when it is counted here).
        max_completion_length: T_max of `dr_grpo`; the longest length here when not given.
        total_tokens, num_completions: the step's totals, so that micro-batches share one denominator; counted from
            these completions when not given.

    Returns:
        `PolicyLoss`, on the device and in the type of `logprobs`.
    """
    masked = truncated if truncated is not None and objective.mask_truncated_completions else None
    totals = _totals(lengths, masked, max_completion_length, total_tokens, num_completions)
    weights = selection.weights.to(logprobs.dtype)
    if masked is not None:
        weights = weights * (~masked).unsqueeze(1)
    surrogate, clipped = _clipped_surrogate(objective, logprobs - old_logprobs, advantages.unsqueeze(1))
    per_token = surrogate
    metrics = {"clip_ratio": (weights * clipped).sum()}
    if ref_logprobs is not None:
        kl = _k3(ref_logprobs - logprobs)
        per_token = per_token + objective.beta * kl
        metrics["kl"] = (weights * kl.detach()).sum()
    if entropy is not None:
        metrics["entropy"] = (weights * entropy.detach()).sum()
    completion_weight = COMPLETION_WEIGHTS[objective.loss_type](lengths.to(logprobs.dtype), totals)
    # `where`, not a product with 0: what was never computed must not leak NaN into loss or gradient.
    kept = torch.where(selection.keep, weights * per_token, torch.zeros_like(per_token))
    return PolicyLoss((completion_weight.unsqueeze(1) * kept).sum(), metrics)


def _totals(
    lengths: Tensor, masked: Tensor | None, longest: int | None, tokens: int | None, completions: int | None
) -> StepTotals:
    if tokens is None:
        tokens = int(lengths.sum() if masked is None else lengths[~masked].sum())
    if longest is None:
        longest = max(int(lengths.max()), 1) if lengths.numel() else 1
    return StepTotals(tokens, completions if completions is not None else lengths.numel(), longest)


def _clipped_surrogate(objective: ObjectiveSpec, log_ratio: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
    """PPO's pessimistic surrogate [B, T], and where the clip decided it."""
    high = objective.epsilon if objective.epsilon_high is None else objective.epsilon_high
    ratio = torch.exp(log_ratio)
    plain = ratio * advantages
    bounded = ratio.clamp(1 - objective.epsilon, 1 + high) * advantages
    return -torch.minimum(plain, bounded), bounded.detach() < plain.detach()


def _k3(log_ratio: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy || reference): exp(x) - x - 1 with x = log ref - log policy."""
    return torch.exp(log_ratio) - log_ratio - 1
