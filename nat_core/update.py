"""One optimizer step over a batch of completions: select, accumulate the gradient, clip, step, report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nat_core.batch import CompletionBatch
from nat_core.drawing import Step, draw_step
from nat_core.errors import NonFiniteLossError
from nat_core.gradient import Passes, accumulate_gradient
from nat_core.kept import with_old_logprobs
from nat_core.memory import PeakMemory
from nat_core.model import Policy
from nat_core.ranks import full
from nat_core.spec import RunSpec
from nat_core.token_selection import GradientMass, TokenSelection

__all__ = ["CompletionBatch", "UpdateStats", "update_on_batch", "update_step"]


@dataclass(frozen=True)
class UpdateStats:
    """What one optimizer step did.

    Attributes:
        metrics: keys of `nat_core.events.METRICS`.
        selection: the tokens that were kept of the live rows.
        live: Long [b], indices of the live rows.
        warning: what went wrong on the way, for the log.
    """

    metrics: dict[str, float]
    selection: TokenSelection
    live: Tensor
    warning: str | None = None


def update_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batch: CompletionBatch,
    spec: RunSpec,
    *,
    generator: torch.Generator,
    reference: Policy | None = None,
    law_state: GradientMass | None = None,
    selection: TokenSelection | None = None,
) -> UpdateStats:
    """One optimizer step; the old policy is this one, detached.

    Args:
        policy: the model to train; its `.grad`s are overwritten.
        optimizer: over `policy.parameters`.
        batch: every completion of the step, dead ones included.
        spec: objective, budget, clipping and micro-batch sizes.
        generator: the selector's own.
        reference: the initial policy, needed when `spec.objective.beta` > 0.
        law_state: what `rpc` with law `optimal` learned in earlier steps; it learns from this one too.
        selection: a selection of the live rows drawn before; drawn here when not given.

    Returns:
        Metrics of the step and its selection over the live rows.

    Raises:
        NonFiniteLossError: loss or gradient norm is NaN or infinite; the weights are left as they were.
        SpecError: the objective needs something that this batch or budget does not give.
    """
    started = time.monotonic()
    step = draw_step(policy, batch, spec, generator, law_state, selection)
    return _run(policy, optimizer, step, spec, reference, law_state, started)


def update_on_batch(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batch: CompletionBatch,
    spec: RunSpec,
    *,
    generator: torch.Generator,
    reference: Policy | None = None,
    law_state: GradientMass | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> list[UpdateStats]:
    """`num_iterations` optimizer steps on one rollout batch, each with a selection of its own.

    All selections are drawn first, so that a pass for the old policy's log-probabilities covers only their union.

    Args:
        on_step: called after each optimizer step (the learning-rate schedule).
    """
    started = time.monotonic()
    drawn = [draw_step(policy, batch, spec, generator, law_state) for _ in range(spec.objective.num_iterations)]
    selected = time.monotonic()
    steps, warning = with_old_logprobs(policy, drawn, spec)
    ready = time.monotonic()
    stats: list[UpdateStats] = []
    for step in steps:
        stats.append(_run(policy, optimizer, step, spec, reference, law_state, time.monotonic()))
        on_step()
    stats[0].metrics["timing_s/update"] += ready - started  # what was done once for all steps counts with the first
    stats[0].metrics["timing_s/forward_backward"] += ready - selected
    if warning is not None:
        stats[0] = replace(stats[0], warning="; ".join(filter(None, (warning, stats[0].warning))))
    return stats


def _run(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    step: Step,
    spec: RunSpec,
    reference: Policy | None,
    law_state: GradientMass | None,
    started: float,
) -> UpdateStats:
    with PeakMemory(policy.device) as memory:
        passes = accumulate_gradient(policy, reference, step, spec, law_state)
        grad_norm = _apply(policy, optimizer, spec.optim.max_grad_norm, passes.sums.get("loss", 0.0))
    if law_state is not None:
        law_state.finish_step()
    metrics = _metrics(step, passes) | {
        "grad_norm": grad_norm,
        "learning_rate": float(optimizer.param_groups[0]["lr"]),  # before the schedule moves on to the next step's
        "timing_s/forward_backward": passes.seconds,
        "timing_s/update": time.monotonic() - started,
        "perf/peak_memory_gib": max(policy.ranks.share(memory.peak_gib)),
    }
    return UpdateStats(metrics, step.selection, step.live, passes.warning)


def _apply(policy: Policy, optimizer: torch.optim.Optimizer, max_grad_norm: float, loss: float) -> float:
    """Clip and step. A step in which nothing was kept has zero gradients and still steps, as full GRPO would."""
    for parameter in policy.parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    norm = float(full(torch.nn.utils.clip_grad_norm_(policy.parameters, max_grad_norm)))
    if not (math.isfinite(norm) and math.isfinite(loss)):
        raise NonFiniteLossError(
            f"loss {loss} with gradient norm {norm} is not finite, so the weights were not changed; "
            "lower optim.learning_rate or look at the last samples"
        )
    optimizer.step()
    return norm


def _metrics(step: Step, passes: Passes) -> dict[str, float]:
    live_tokens = int(step.selection.lengths.sum())
    metrics = {
        "loss": passes.sums.get("loss", 0.0),
        "tokens/live": float(live_tokens),
        "tokens/selected": float(step.selection.num_kept),
        "tokens/trunk": passes.tokens,
        "flops/update": passes.flops,
        "tokens/padded": passes.places,
    }
    if passes.imbalance is not None:
        metrics["perf/rank_imbalance"] = passes.imbalance
    if live_tokens == 0:  # shares and means of nothing are left out, not called 0
        return metrics
    metrics |= {
        "budget/fraction": step.selection.fraction,
        "budget/max_weight": step.selection.max_weight,
        "budget/effective_sample_size": step.selection.effective_sample_size,
    }
    # A biased selection is not weighted: its sums know nothing of the tokens left out, so it has means over those kept.
    counted = live_tokens if step.selection.unbiased else max(step.selection.num_kept, 1)
    return metrics | {name: total / counted for name, total in passes.sums.items() if name != "loss"}
