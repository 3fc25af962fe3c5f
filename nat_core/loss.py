"""The policy loss per token, Horvitz-Thompson weighted, one denominator a step.

    L = sum_i c_i sum_t (s_it / p_it) (r_it policy_it + beta KL_it) - entropy_coef / tokens sum_it (s_it / p_it) H_it

1/p multiplies outside min and clip. c_i counts **full** lengths, never kept tokens, so that E[L] is
the full loss. r is the truncated rollout importance weight, 1 unless `rollout_is` asks for it.
B completions, T longest completion. A new loss is one row of `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nat_core.errors import SpecError
from nat_core.spec import ObjectiveSpec
from nat_core.token_selection import TokenSelection


@dataclass(frozen=True)
class StepTotals:
    """What the denominators count: the whole optimizer step, all micro-batches, dead rows included."""

    tokens: int
    completions: int
    max_completion_length: int


# --- c_i: what a token of completion i weighs -----------------------------------------------------


def _by_tokens(lengths: Tensor, totals: StepTotals) -> Tensor:
    return torch.full_like(lengths, 1 / max(totals.tokens, 1))


def _by_completion(lengths: Tensor, totals: StepTotals) -> Tensor:
    return 1 / (totals.completions * lengths.clamp(min=1))


def _by_limit(lengths: Tensor, totals: StepTotals) -> Tensor:
    return torch.full_like(lengths, 1 / (totals.completions * totals.max_completion_length))


# --- the policy term ------------------------------------------------------------------------------

# (objective, log_ratio [B, T], logprobs [B, T], advantages [B, 1]) -> (policy [B, T], where the clip decided it)
PolicyTerm = Callable[[ObjectiveSpec, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _clipped(
    objective: ObjectiveSpec, log_ratio: Tensor, logprobs: Tensor, advantages: Tensor
) -> tuple[Tensor, Tensor]:
    """PPO's pessimistic surrogate; `delta` bounds it from the other side (INTELLECT-2, arXiv 2505.07291)."""
    ratio = torch.exp(log_ratio)
    plain = (ratio if objective.delta is None else ratio.clamp(max=objective.delta)) * advantages
    bounded = ratio.clamp(1 - objective.epsilon, objective.ratio_cap) * advantages
    found = torch.minimum(plain, bounded)
    return -found, found.detach() != (ratio * advantages).detach()


def _capped_weight(
    objective: ObjectiveSpec, log_ratio: Tensor, logprobs: Tensor, advantages: Tensor
) -> tuple[Tensor, Tensor]:
    """REINFORCE weighted by a capped ratio that carries no gradient, so that no token's gradient is lost."""
    ratio = torch.exp(log_ratio).detach()
    return -ratio.clamp(max=objective.ratio_cap) * advantages * logprobs, ratio > objective.ratio_cap


@dataclass(frozen=True)
class Loss:
    """One `loss_type`.

    Attributes:
        completion_weight: c_i [B] from full lengths (float [B]) and the step's totals.
        policy_term: the loss of a token.
        sequence_ratio: one ratio a completion, the geometric mean of its tokens'; needs every token of it.
    """

    completion_weight: Callable[[Tensor, StepTotals], Tensor]
    policy_term: PolicyTerm
    sequence_ratio: bool = False


LOSSES: dict[str, Loss] = {
    "dapo": Loss(_by_tokens, _clipped),  # arXiv 2503.14476
    "grpo": Loss(_by_completion, _clipped),  # arXiv 2402.03300
    "dr_grpo": Loss(_by_limit, _clipped),  # arXiv 2503.20783
    "cispo": Loss(_by_tokens, _capped_weight),  # arXiv 2506.13585
    "gspo": Loss(_by_completion, _clipped, sequence_ratio=True),  # arXiv 2507.18071
}

# Schulman's estimates of KL(policy || reference) from x = log reference - log policy.
KL_ESTIMATES: dict[str, Callable[[Tensor], Tensor]] = {
    "k1": lambda x: -x,
    "k2": lambda x: x.square() / 2,
    "k3": lambda x: torch.exp(x) - x - 1,
}


def completion_weights(objective: ObjectiveSpec, lengths: Tensor, totals: StepTotals) -> Tensor:
    """c_i, in the type of `lengths` (float [B])."""
    return LOSSES[objective.loss_type].completion_weight(lengths, totals)


# --- the whole ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PolicyLoss:
    """Attributes:
    loss: scalar with graph, a part of the step's loss: parts of micro-batches add up.
    metrics: Horvitz-Thompson estimates of sums over these completions' tokens (`clip_ratio`, and where they can be
        had `kl`, `kl_k1`, `entropy`, `rollout_is_ratio`): they add up too; divide by the step's live tokens for means.
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
        objective: loss type, clips, KL, entropy bonus, rollout correction.
        logprobs, old_logprobs: Float [B, T] of the sampling distribution; any finite value where not kept.
        advantages: Float [B].
        lengths: Long [B], full lengths.
        selection: the tokens kept of these completions, with their probabilities.
        ref_logprobs: Float [B, T], needed when `objective.beta` > 0.
        rollout_logprobs: Float [B, T], the engine's own; needed when `objective.rollout_is` is not `none`.
        entropy: Float [B, T], with graph when `objective.entropy_coef` > 0; else only reported.
        truncated: Bool [B], completions that hit the limit; they leave the loss when
            `mask_truncated_completions` is set (and `dapo`'s token total, as in TRL 1.16, when it is counted here).
        max_completion_length: T_max of `dr_grpo`; the longest length here when not given.
        total_tokens, num_completions: the step's totals, so that micro-batches share one denominator; counted from
            these completions when not given.

    Returns:
        `PolicyLoss`, on the device and in the type of `logprobs`.

    Raises:
        SpecError: something that the objective needs was not given, or it needs every token of a completion and the
            selection keeps part of one.
    """
    _check_inputs(objective, selection, ref_logprobs, rollout_logprobs, entropy)
    masked = truncated if truncated is not None and objective.mask_truncated_completions else None
    totals = _totals(lengths, masked, max_completion_length, total_tokens, num_completions)
    weights = selection.weights.to(logprobs.dtype)
    if masked is not None:
        weights = weights * (~masked).unsqueeze(1)
    loss = LOSSES[objective.loss_type]
    # What was never computed is left out here as well as at the end: a difference of it may overflow, and 0 times an
    # infinite slope is no number.
    log_ratio = torch.where(selection.keep, logprobs - old_logprobs, 0.0)
    if loss.sequence_ratio:
        log_ratio = (_over_completion(log_ratio, lengths) / lengths.clamp(min=1).unsqueeze(1)).expand_as(logprobs)
    per_token, clipped = loss.policy_term(objective, log_ratio, logprobs, advantages.unsqueeze(1))
    sums = {"clip_ratio": clipped.to(weights.dtype)}
    if objective.rollout_is != "none" and rollout_logprobs is not None:
        sums["rollout_is_ratio"] = _rollout_ratio(objective, old_logprobs.detach() - rollout_logprobs, lengths)
        per_token = per_token * sums["rollout_is_ratio"]
    if ref_logprobs is not None:
        gap = torch.where(selection.keep, ref_logprobs - logprobs, 0.0)
        kl = KL_ESTIMATES[objective.kl_estimator](gap)
        if objective.use_bias_correction_kl:
            kl = kl * torch.exp(log_ratio)
        per_token = per_token + objective.beta * kl
        sums |= {"kl": kl.detach(), "kl_k1": KL_ESTIMATES["k1"](gap.detach())}
    per_token = completion_weights(objective, lengths.to(logprobs.dtype), totals).unsqueeze(1) * per_token
    if entropy is not None:
        sums["entropy"] = entropy.detach()
        if objective.entropy_coef:
            per_token = per_token - objective.entropy_coef / max(totals.tokens, 1) * entropy
    # `where`, not a product with 0: what was never computed must not leak NaN into loss or gradient.
    kept = torch.where(selection.keep, weights * per_token, torch.zeros_like(per_token))
    estimates = {name: torch.where(selection.keep, weights * value, 0.0).sum() for name, value in sums.items()}
    return PolicyLoss(kept.sum(), estimates)


def _check_inputs(
    objective: ObjectiveSpec,
    selection: TokenSelection,
    ref_logprobs: Tensor | None,
    rollout_logprobs: Tensor | None,
    entropy: Tensor | None,
) -> None:
    for field, needed, given, what in (
        ("beta", objective.beta > 0, ref_logprobs, "reference's log-probabilities are"),
        ("rollout_is", objective.rollout_is != "none", rollout_logprobs, "rollout's log-probabilities are"),
        ("entropy_coef", objective.entropy_coef > 0, entropy, "entropies are"),
    ):
        if needed and given is None:
            value = getattr(objective, field)
            detail = f"objective.{field} is {value}, but the {what} missing; pass them or switch it off"
            raise SpecError.at(f"/objective/{field}", detail)
    if objective.sequence_level and not selection.keeps_whole_completions:
        detail = (
            f"objective.{objective.sequence_level} needs every token of a completion, but the selection keeps part of "
            "one; use budget full or completions"
        )
        raise SpecError.at("/objective", detail)


def _totals(
    lengths: Tensor, masked: Tensor | None, longest: int | None, tokens: int | None, completions: int | None
) -> StepTotals:
    if tokens is None:
        tokens = int(lengths.sum() if masked is None else lengths[~masked].sum())
    if longest is None:
        longest = max(int(lengths.max()), 1) if lengths.numel() else 1
    return StepTotals(tokens, completions if completions is not None else lengths.numel(), longest)


def _over_completion(values: Tensor, lengths: Tensor) -> Tensor:
    """Sums over each completion's own tokens, [B, 1]; padding is left out."""
    real = torch.arange(values.shape[1], device=values.device) < lengths.unsqueeze(1)
    return torch.where(real, values, 0.0).sum(dim=1, keepdim=True)


def _rollout_ratio(objective: ObjectiveSpec, log_ratio: Tensor, lengths: Tensor) -> Tensor:
    """Truncated ratio of old policy to rollout engine, of each token or of the whole completion: [B, T]."""
    if objective.rollout_is == "sequence":
        log_ratio = _over_completion(log_ratio, lengths).expand_as(log_ratio)
    return torch.exp(log_ratio).clamp(max=objective.rollout_is_cap)
