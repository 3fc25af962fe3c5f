"""One optimizer step over a batch of completions, paying only for the tokens that are kept.

    drop completions that teach nothing → select tokens → cut, sort by length, split into micro-batches
    → trunk on prompt + kept prefix → head on selected positions → loss, one denominator → step

B completions, T longest completion, S selected tokens of a micro-batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nat_core.errors import NonFiniteLossError
from nat_core.logprobs import selected_logprobs
from nat_core.loss import COMPLETION_WEIGHTS, StepTotals, policy_loss
from nat_core.memory import PeakMemory
from nat_core.microbatch import MicroBatch, plan_microbatches
from nat_core.model import Policy
from nat_core.spec import RunSpec
from nat_core.token_selection import TokenSelection, select_tokens


@dataclass(frozen=True)
class CompletionBatch:
    """The completions of one rollout batch.

    Attributes:
        prompts: token ids of each completion's prompt, Long [P_i].
        completions: token ids of each completion, Long [T_i].
        advantages: Float [B].
        truncated: Bool [B], those that hit the length limit.
        rollout_logprobs: of each completion's tokens when they were sampled, Float [T_i]; empty where not known.
    """

    prompts: list[Tensor]
    completions: list[Tensor]
    advantages: Tensor
    truncated: Tensor
    rollout_logprobs: list[Tensor] = field(default_factory=list)

    @property
    def lengths(self) -> Tensor:
        """Full completion lengths, Long [B]."""
        return torch.tensor([len(ids) for ids in self.completions])

    def live(self, spec: RunSpec) -> Tensor:
        """Indices of completions that can move the policy, Long [b].

        Without a KL term those with zero advantage have zero loss and gradient: they leave before selection, so that
        no budget is spent on them. Their lengths and number stay in the denominators.
        """
        keep = torch.ones(len(self.completions), dtype=torch.bool)
        if spec.objective.beta == 0:
            keep &= self.advantages != 0
        if spec.objective.mask_truncated_completions:
            keep &= ~self.truncated
        return keep.nonzero().squeeze(1)

    def rows(self, index: Tensor) -> CompletionBatch:
        """Some of the completions; `index` Long [b]."""
        chosen = index.tolist()
        return CompletionBatch(
            [self.prompts[i] for i in chosen],
            [self.completions[i] for i in chosen],
            self.advantages[index],
            self.truncated[index],
            [self.rollout_logprobs[i] for i in chosen] if self.rollout_logprobs else [],
        )

    @property
    def surprisal(self) -> Tensor | None:
        """Minus the rollout's log-probabilities, right-padded Float [B, T]; None where they are not known."""
        if not self.rollout_logprobs:
            return None
        return -torch.nn.utils.rnn.pad_sequence(self.rollout_logprobs, batch_first=True)


@dataclass
class UpdateStats:
    """What one optimizer step did; `metrics` are keys of `nat_core.events.METRICS`."""

    metrics: dict[str, float] = field(default_factory=dict)
    selection: TokenSelection | None = None
    live: Tensor | None = None


@dataclass(frozen=True)
class _Step:
    """The rows one optimizer step trains on, and the totals its denominators count."""

    batch: CompletionBatch
    selection: TokenSelection
    totals: StepTotals


def update_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batch: CompletionBatch,
    spec: RunSpec,
    *,
    generator: torch.Generator,
    reference: Policy | None = None,
    law_state: Any = None,
    selection: TokenSelection | None = None,
    old_logprobs: Tensor | None = None,
) -> UpdateStats:
    """One optimizer step.

    Args:
        policy: the model to train; its `.grad`s are overwritten.
        optimizer: over `policy.parameters`.
        batch: every completion of the step, dead ones included.
        spec: objective, budget, clipping and micro-batch sizes.
        generator: the selector's own.
        reference: the initial policy, needed when `spec.objective.beta` > 0.
        law_state: running estimates of a selector that keeps any.
        selection: a selection of the live rows drawn before; drawn here when not given.
        old_logprobs: Float [b, T] of the live rows where the batch serves several steps; without it the old policy is
            this one, detached.

    Returns:
        Metrics of the step and its selection over the live rows.

    Raises:
        NonFiniteLossError: loss or gradient norm is NaN or infinite; the weights are left as they were.
    """
    started = time.monotonic()
    live = batch.live(spec)
    rows = batch.rows(live)
    if selection is None:
        selection = draw_selection(batch, live, spec, generator, law_state)
    step = _Step(rows, selection, _totals(batch, spec))
    sums: dict[str, float] = {"loss": 0.0, "clip_ratio": 0.0, "kl": 0.0, "entropy": 0.0}
    optimizer.zero_grad(set_to_none=True)
    with PeakMemory(policy.device) as memory:
        microbatches = plan_microbatches(rows.prompts, rows.completions, selection, spec.resources)
        passes_started = time.monotonic()
        for micro in microbatches:
            _forward_backward(policy, reference, step, micro, spec, old_logprobs, sums)
        _synchronise(policy.device)
        passes_seconds = time.monotonic() - passes_started
        grad_norm = _apply(policy, optimizer, spec.optim.max_grad_norm, sums["loss"])
    metrics = _metrics(step, microbatches, sums, reference is not None)
    metrics |= {
        "grad_norm": grad_norm,
        "timing_s/forward_backward": passes_seconds,
        "timing_s/update": time.monotonic() - started,
        "perf/peak_memory_gib": memory.peak_gib,
    }
    return UpdateStats(metrics, selection, live)


def update_on_batch(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batch: CompletionBatch,
    spec: RunSpec,
    *,
    generator: torch.Generator,
    reference: Policy | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> list[UpdateStats]:
    """`num_iterations` optimizer steps on one rollout batch, each with a selection of its own.

    All selections are drawn before the old-policy pass, which covers only their union.

    Args:
        on_step: called after each optimizer step (the learning-rate schedule).
    """
    started = time.monotonic()
    live = batch.live(spec)
    selections = [draw_selection(batch, live, spec, generator) for _ in range(spec.objective.num_iterations)]
    drawn = time.monotonic()
    old_logprobs = _old_logprobs(policy, batch.rows(live), selections, spec) if len(selections) > 1 else None
    ready = time.monotonic()
    stats: list[UpdateStats] = []
    for selection in selections:
        stats.append(
            update_step(
                policy,
                optimizer,
                batch,
                spec,
                generator=generator,
                reference=reference,
                selection=selection,
                old_logprobs=old_logprobs,
            )
        )
        on_step()
    stats[0].metrics["timing_s/update"] += ready - started  # what was done once for all steps counts with the first
    stats[0].metrics["timing_s/forward_backward"] += ready - drawn
    return stats


def draw_selection(
    batch: CompletionBatch, live: Tensor, spec: RunSpec, generator: torch.Generator, law_state: Any = None
) -> TokenSelection:
    """A fresh selection over the live rows of a batch."""
    rows = batch.rows(live)
    return select_tokens(
        spec.budget,
        rows.lengths,
        generator=generator,
        advantages=rows.advantages,
        surprisal=rows.surprisal,
        token_weight=COMPLETION_WEIGHTS[spec.objective.loss_type](rows.lengths.double(), _totals(batch, spec)),
        law_state=law_state,
    )


def _forward_backward(
    policy: Policy,
    reference: Policy | None,
    step: _Step,
    micro: MicroBatch,
    spec: RunSpec,
    old_logprobs: Tensor | None,
    sums: dict[str, float],
) -> None:
    selection = step.selection.rows(micro.rows)
    logprobs, entropy = kept_logprobs(policy, micro, selection.keep, spec)
    reference_logprobs = None
    if reference is not None:
        with torch.no_grad():
            reference_logprobs, _ = kept_logprobs(reference, micro, selection.keep, spec)
    old = logprobs.detach() if old_logprobs is None else old_logprobs[micro.rows].to(policy.device)
    part = policy_loss(
        spec.objective,
        logprobs,
        old,
        step.batch.advantages[micro.rows].to(policy.device, logprobs.dtype),
        selection.lengths.to(policy.device),
        selection.to(policy.device),
        ref_logprobs=reference_logprobs,
        entropy=entropy,
        max_completion_length=step.totals.max_completion_length,
        total_tokens=step.totals.tokens,
        num_completions=step.totals.completions,
    )
    part.loss.backward()
    sums["loss"] += float(part.loss.detach())
    for name, value in part.metrics.items():
        sums[name] += float(value)


def kept_logprobs(policy: Policy, micro: MicroBatch, keep: Tensor, spec: RunSpec) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of the kept tokens, 0 elsewhere: Float [b, T] each."""
    row, position = keep.nonzero(as_tuple=True)
    hidden = policy.hidden_states(micro.input_ids.to(policy.device))
    before = micro.prompt_lengths[row] + position - 1  # the state before a token predicts it
    chosen = hidden[row.to(policy.device), before.to(policy.device)]
    targets = micro.targets[row, position].to(policy.device)
    logprobs, entropy = selected_logprobs(
        chosen,
        targets,
        policy.head,
        temperature=spec.rollout.temperature,
        chunk_tokens=spec.resources.logprob_chunk_tokens,
    )
    index = (row.to(policy.device), position.to(policy.device))
    blank = torch.zeros(keep.shape, dtype=logprobs.dtype, device=policy.device)
    return blank.index_put(index, logprobs), blank.index_put(index, entropy)


@torch.no_grad()
def _old_logprobs(policy: Policy, rows: CompletionBatch, selections: list[TokenSelection], spec: RunSpec) -> Tensor:
    """Log-probabilities before the first step, of every token that any selection keeps: Float [b, T]."""
    keep = torch.stack([selection.keep for selection in selections]).any(dim=0)
    kept_length = torch.stack([selection.kept_length for selection in selections]).amax(dim=0)
    union = TokenSelection(keep, selections[0].inclusion_prob, kept_length, selections[0].lengths, True)
    old = torch.zeros(keep.shape)
    for micro in plan_microbatches(rows.prompts, rows.completions, union, spec.resources):
        logprobs, _ = kept_logprobs(policy, micro, keep[micro.rows], spec)
        old = old.to(logprobs.dtype)
        old[micro.rows] = logprobs.cpu()
    return old


def _apply(policy: Policy, optimizer: torch.optim.Optimizer, max_grad_norm: float, loss: float) -> float:
    """Clip and step. A step in which nothing was kept has zero gradients and still steps, as full GRPO would."""
    for parameter in policy.parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    norm = float(torch.nn.utils.clip_grad_norm_(policy.parameters, max_grad_norm))
    if not (math.isfinite(norm) and math.isfinite(loss)):
        raise NonFiniteLossError(
            f"loss {loss} with gradient norm {norm} is not finite, so the weights were not changed; "
            "lower optim.learning_rate or look at the last samples"
        )
    optimizer.step()
    return norm


def _totals(batch: CompletionBatch, spec: RunSpec) -> StepTotals:
    """What the step's denominators count; truncated completions leave the tokens when masked, as in TRL 1.16."""
    counted = batch.lengths[~batch.truncated] if spec.objective.mask_truncated_completions else batch.lengths
    return StepTotals(int(counted.sum()), len(batch.completions), spec.rollout.max_completion_length)


def _metrics(step: _Step, microbatches: list[MicroBatch], sums: dict[str, float], with_kl: bool) -> dict[str, float]:
    live_tokens = int(step.selection.lengths.sum())
    metrics = {
        "loss": sums["loss"],
        "tokens/live": float(live_tokens),
        "tokens/selected": float(step.selection.num_kept),
        "tokens/trunk": float(sum(micro.num_tokens for micro in microbatches)),
        "tokens/padded": float(sum(micro.input_ids.numel() for micro in microbatches)),
    }
    if live_tokens == 0:  # shares and means of nothing are left out, not called 0
        return metrics
    metrics |= {
        "budget/fraction": step.selection.fraction,
        "budget/max_weight": step.selection.max_weight,
        "budget/effective_sample_size": step.selection.effective_sample_size,
        "entropy": sums["entropy"] / live_tokens,
        "clip_ratio": sums["clip_ratio"] / live_tokens,
    }
    return metrics | ({"kl": sums["kl"] / live_tokens} if with_kl else {})


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
