"""The gradient of one optimizer step, paying only for the tokens that are kept.

rows dealt to ranks, cut, split into micro-batches → trunk on prompt + kept prefix → head on selected positions
→ loss, one denominator → backward
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nat_core.division import plan_passes, share_out
from nat_core.drawing import Step
from nat_core.kept import kept_logprobs
from nat_core.loss import completion_weights, policy_loss
from nat_core.microbatch import MicroBatch
from nat_core.model import Policy
from nat_core.out_of_memory import run_or_halve
from nat_core.spec import RunSpec
from nat_core.token_selection import GradientMass


@dataclass(frozen=True)
class Passes:
    """What the forward and backward passes of a step left besides the gradient.

    Of several ranks together, but for `microbatches`.

    Attributes:
        microbatches: as they were run on this rank.
        flops: counted operations of the policy's passes, forward and backward.
        tokens: that went through the layers, without padding.
        places: with it.
        sums: the loss, and Horvitz-Thompson estimates of sums over live tokens.
        seconds: wall-clock time of the passes, of the slowest rank.
        imbalance: predicted cost of the slowest rank over the mean; None where there is one.
        warning: what went wrong on the way, for the log.
    """

    microbatches: list[MicroBatch]
    flops: float
    tokens: float
    places: float
    sums: dict[str, float]
    seconds: float
    imbalance: float | None = None
    warning: str | None = None


def accumulate_gradient(
    policy: Policy, reference: Policy | None, step: Step, spec: RunSpec, law_state: GradientMass | None = None
) -> Passes:
    """Put the gradient of the step's loss into the policy's `.grad`s, replacing what was there.

    Args:
        reference: the initial policy, needed when `spec.objective.beta` > 0.
        law_state: told where the gradient lay, where given.

    Raises:
        StepMemoryError: it does not fit, and neither does it in micro-batches half as large.
    """
    shares = share_out(policy, step.rows, step.selection)
    passes, warning = run_or_halve(
        policy,
        spec.resources,
        lambda resources: plan_passes(policy, step.rows, step.selection, resources, shares),
        lambda plan: _run(policy, reference, step, plan, spec, law_state),
        law_state.forget_step if law_state is not None else lambda: None,
    )
    return replace(passes, imbalance=None if shares is None else shares.imbalance, warning=warning)


def _run(
    policy: Policy,
    reference: Policy | None,
    step: Step,
    plan: list[MicroBatch],
    spec: RunSpec,
    law_state: GradientMass | None,
) -> Passes:
    for parameter in policy.parameters:
        parameter.grad = None
    started = time.monotonic()
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=policy.device, dtype=torch.float64))
    for micro in plan:
        with policy.attention_for(micro.tokens):
            for name, value in _forward_backward(policy, reference, step, micro, spec, law_state).items():
                sums[name] = sums[name] + value
    synchronise(policy.device)
    seconds = time.monotonic() - started
    ranks = policy.ranks
    if law_state is not None:
        law_state.pool(ranks.total)
    trunk = {
        "flops": sum(_flops(policy, micro) for micro in plan),
        "tokens": float(sum(micro.laid.num_tokens for micro in plan)),
        "places": float(sum(micro.tokens.num_places for micro in plan)),
    }
    trunk = ranks.sums(trunk)
    return Passes(
        plan,
        flops=policy.token_cost.head(step.selection.num_kept) + trunk["flops"],
        tokens=trunk["tokens"],
        places=trunk["places"],
        sums=ranks.sums({name: float(value) for name, value in sums.items()}),
        seconds=max(ranks.share(seconds)),
    )


def _forward_backward(
    policy: Policy,
    reference: Policy | None,
    step: Step,
    micro: MicroBatch,
    spec: RunSpec,
    law_state: GradientMass | None,
) -> dict[str, Tensor]:
    selection, rows = step.selection.rows(micro.rows), step.rows
    with torch.no_grad():  # before the policy's own pass, which leaves activations and logits in memory
        ref_logprobs = None if reference is None else kept_logprobs(reference, micro, selection.keep, spec)[0]
    logprobs, entropy = kept_logprobs(policy, micro, selection.keep, spec)

    def of_micro(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[micro.rows].to(policy.device, logprobs.dtype)

    selection = selection.to(policy.device)
    old, advantages = of_micro(step.old_logprobs), rows.advantages[micro.rows].to(policy.device, logprobs.dtype)
    part = policy_loss(
        spec.objective,
        logprobs,
        logprobs.detach() if old is None else old,
        advantages,
        selection.lengths,
        selection,
        ref_logprobs=ref_logprobs,
        rollout_logprobs=of_micro(rows.padded_rollout_logprobs) if spec.objective.rollout_is != "none" else None,
        entropy=entropy,
        max_completion_length=step.totals.max_completion_length,
        total_tokens=step.totals.tokens,
        num_completions=step.totals.completions,
    )
    part.loss.backward()
    if law_state is not None:
        scale = completion_weights(spec.objective, selection.lengths.double(), step.totals) * advantages.abs()
        law_state.observe(selection, logprobs.detach(), scale)
    return {"loss": part.loss.detach(), **part.metrics}


def _flops(policy: Policy, micro: MicroBatch) -> float:
    cost, tokens = policy.token_cost, micro.tokens
    return float(cost.linear(tokens.num_places) + sum(map(cost.attention, tokens.sequence_lengths)))


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read next is right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
