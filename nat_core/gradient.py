"""The gradient of one optimizer step, paying only for the tokens that are kept.

    drop completions that teach nothing → select tokens → cut, sort by length, split into micro-batches
    → trunk on prompt + kept prefix → head on selected positions → loss, one denominator → backward

b live completions, T longest of them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nat_core.batch import CompletionBatch
from nat_core.dealing import Cost, Shares, deal
from nat_core.errors import StepMemoryError
from nat_core.logprobs import selected_logprobs
from nat_core.loss import StepTotals, completion_weights, policy_loss
from nat_core.microbatch import MicroBatch, plan_microbatches
from nat_core.model import Policy
from nat_core.out_of_memory import half_of, is_out_of_memory, largest
from nat_core.spec import ResourcesSpec, RunSpec
from nat_core.token_selection import Cumulative, DenseSelection, GradientMass, TokenSelection, select_tokens


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


def accumulate_gradient(
    policy: Policy, reference: Policy | None, step: Step, spec: RunSpec, law_state: GradientMass | None = None
) -> Passes:
    """Put the gradient of the step's loss into the policy's `.grad`s, replacing what was there.

    What runs out of memory is done once more, whole, with micro-batches half as large. Of several ranks one that runs
    out of memory has left the others in the middle of a pass, so it ends the run.

    Args:
        reference: the initial policy, needed when `spec.objective.beta` > 0.
        law_state: told where the gradient lay, where given.

    Raises:
        StepMemoryError: half was still too much.
    """
    shares = _deal(policy, step.rows, step.selection)
    plan = _plan(policy, step.rows, step.selection, spec.resources, shares)
    remedy = "lower resources.max_tokens_per_microbatch or turn on model.gradient_checkpointing"
    try:
        passes = _run(policy, reference, step, plan, spec, law_state)
        return passes if shares is None else replace(passes, imbalance=shares.imbalance)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if shares is not None:
            where = f"rank {policy.ranks.rank} is out of memory with micro-batches of {largest(plan):,} tokens"
            raise StepMemoryError(f"{where}; {remedy}") from error
    # Outside of `except`: the error's traceback, and what its frames held, are gone.
    if law_state is not None:
        law_state.forget_step()
    if policy.device.type == "cuda":
        torch.cuda.empty_cache()
    smaller = _plan(policy, step.rows, step.selection, half_of(plan, spec.resources))
    tried = f"out of memory with micro-batches of {largest(plan):,} tokens"
    try:
        passes = _run(policy, reference, step, smaller, spec, law_state)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise StepMemoryError(f"{tried} and again with {largest(smaller):,} ({reason}); {remedy}") from error
    warning = f"{tried}; the step was done over with {largest(smaller):,}, which takes longer: {remedy}"
    return replace(passes, warning=warning)


def _plan(
    policy: Policy,
    rows: CompletionBatch,
    selection: TokenSelection,
    resources: ResourcesSpec,
    shares: Shares | None = None,
) -> list[MicroBatch]:
    """This rank's micro-batches."""
    dealt = None if shares is None else shares.rows
    return plan_microbatches(
        rows.prompts, rows.completions, selection, resources, policy.layout, dealt, policy.ranks.rank
    )


def _deal(policy: Policy, rows: CompletionBatch, selection: TokenSelection) -> Shares | None:
    """Which rank gets which rows, by what they cost as far as they are kept; None where there is one rank."""
    if policy.ranks.alone:
        return None
    cost, packed = policy.token_cost, policy.layout == "packed"
    kept, selected = selection.kept_length.tolist(), selection.keep.sum(dim=1).tolist()
    costs = []
    for row, prompt in enumerate(rows.prompts):
        if kept[row] > 0:
            length = len(prompt) + kept[row] - 1
            shared = float(cost.linear(len(prompt))) if packed else 0.0
            own = float(cost.trunk(length) + cost.head(selected[row])) - shared
            costs.append(Cost(row, prompt.numpy().tobytes(), own, shared))
    return deal(costs, policy.ranks.size)


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


def _flops(policy: Policy, micro: MicroBatch) -> float:
    cost, tokens = policy.token_cost, micro.tokens
    return float(cost.linear(tokens.num_places) + sum(map(cost.attention, tokens.sequence_lengths)))


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


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read next is right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forward_backward(
    policy: Policy,
    reference: Policy | None,
    step: Step,
    micro: MicroBatch,
    spec: RunSpec,
    law_state: GradientMass | None,
) -> dict[str, Tensor]:
    selection, rows = step.selection.rows(micro.rows), step.rows
    logprobs, entropy = kept_logprobs(policy, micro, selection.keep, spec)
    with torch.no_grad():
        ref_logprobs = None if reference is None else kept_logprobs(reference, micro, selection.keep, spec)[0]

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


def _cost(policy: Policy, rows: CompletionBatch) -> Cumulative:
    """FLOPs of training on each completion as far as a position; packed rows share a pass over their prompt."""
    sharers = rows.prompt_sharers.unsqueeze(1) if policy.layout == "packed" else 1
    return policy.token_cost.of_completions(rows.prompt_lengths.unsqueeze(1).double(), sharers)


@torch.no_grad()
def _pass_over_union(policy: Policy, steps: list[Step], spec: RunSpec) -> Tensor:
    """Log-probabilities of every token that any of the steps keeps: Float [b, T], 0 elsewhere."""
    rows, selections = steps[0].rows, [step.selection for step in steps]
    keep = torch.stack([selection.keep for selection in selections]).any(dim=0)
    kept_length = torch.stack([selection.kept_length for selection in selections]).amax(dim=0)
    union = DenseSelection(keep, torch.ones_like(keep, dtype=torch.float64), kept_length, rows.lengths, False)
    old = torch.zeros(keep.shape)
    for micro in _plan(policy, rows, union, spec.resources, _deal(policy, rows, union)):
        logprobs, _ = kept_logprobs(policy, micro, keep[micro.rows], spec)
        old = old.to(logprobs.dtype)
        old[micro.rows] = logprobs.cpu()
    return policy.ranks.total(old)
