"""What a trainer tells of its work: how it starts, each step's numbers, some of its completions."""

from __future__ import annotations

from collections.abc import Iterable

from nat_core import hardware, packing
from nat_core.data import PromptSource
from nat_core.events import LogEvent, MetricsEvent, SampleEvent, StateEvent
from nat_core.model import Policy
from nat_core.reporter import Reporter
from nat_core.rollout.engine import Engine
from nat_core.rollout.step import Rollout
from nat_core.spec import RunSpec
from nat_core.update import UpdateStats


def tell_start(
    reporter: Reporter, spec: RunSpec, policy: Policy, engine: Engine, sources: Iterable[PromptSource]
) -> None:
    """Report the start; its `step` is the one that the run goes on from."""
    reporter.emit(StateEvent, phase="started", hardware=hardware.describe(policy.device))
    reporter.emit(
        LogEvent,
        message=f"{spec.model.path}: {_parameters(policy)} in {spec.model.dtype} on {policy.device}, "
        f"budget {spec.budget.label}, loss {spec.objective.loss_type}, {spec.steps} steps",
    )
    if not policy.ranks.alone:
        message = f"{policy.ranks.size} ranks: weights, gradients and optimizer are cut over them, rollouts dealt out"
        reporter.emit(LogEvent, message=message)
    reporter.emit(LogEvent, message=f"micro-batches: {packing.in_words(policy)}")
    reporter.emit(LogEvent, message=f"rollouts: {engine.description}")
    for note in (note for source in sources for note in source.notes):
        reporter.emit(LogEvent, level="warning", message=note)
    if reporter.step:
        reporter.emit(LogEvent, message=f"went on from the checkpoint of step {reporter.step}")


def _parameters(policy: Policy) -> str:
    """`134,515,008 parameters`, or with adapters how many of them are trained."""
    trained, lora = sum(weight.numel() for weight in policy.parameters), policy.spec.lora
    if lora.r is None:
        return f"{trained:,} parameters"
    held = "" if lora.quantize == "none" else f" held in {lora.quantize}"
    return f"{policy.num_parameters:,} parameters{held}, {trained:,} of them in adapters of rank {lora.r} and trained,"


def tell_step(
    reporter: Reporter,
    rollout: Rollout,
    values: dict[str, float],
    *,
    rollout_s: float,
    step_s: float,
) -> None:
    """Report a step's numbers; `values` are those of its update."""
    lengths, rewards = rollout.batch.lengths, rollout.rewards
    reporter.emit(
        MetricsEvent,
        values={
            **values,
            "reward": float(rewards.mean()),
            "reward_std": float(rewards.std(dim=1).mean()),
            "frac_reward_zero_std": float((rewards.amax(1) == rewards.amin(1)).float().mean()),
            "tokens/generated": float(lengths.sum()),
            "completions/mean_length": float(lengths.float().mean()),
            "completions/clipped_ratio": float(rollout.batch.truncated.float().mean()),
            "timing_s/rollout": rollout_s,
            "timing_s/step": step_s,
            "perf/tokens_per_s": float(lengths.sum()) / step_s,
        },
    )


def tell_samples(reporter: Reporter, spec: RunSpec, policy: Policy, rollout: Rollout, stats: UpdateStats) -> None:
    """Log some live completions with what the budget did to them."""
    size = spec.rollout.num_generations
    for place, flat in list(enumerate(stats.live.tolist()))[: spec.resources.num_logged_samples]:
        completion, example = rollout.completions[flat], rollout.examples[flat // size]
        ids = completion.ids
        reporter.emit(
            SampleEvent,
            prompt=example.prompt,
            tokens=[str(policy.tokenizer.decode([token])) for token in ids],
            keep=stats.selection.keep[place, : len(ids)].tolist(),
            inclusion_prob=stats.selection.inclusion_prob[place, : len(ids)].tolist(),
            logprobs=completion.logprobs,
            reward=float(rollout.rewards.flatten()[flat]),
            advantage=float(rollout.batch.advantages[flat]),
            answer=example.answer,
        )
