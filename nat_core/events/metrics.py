"""The table of every metric. Charts, tables and the glossary are built from it: a new metric is one entry."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum


class Direction(StrEnum):
    """Which way a metric gets better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


class Panel(StrEnum):
    """The group of charts that shows a metric."""

    LEARNING = "learning"
    BUDGET = "budget"
    COST = "cost"
    POLICY = "policy"
    COMPLETIONS = "completions"
    SYSTEM = "system"


@dataclass(frozen=True)
class MetricInfo:
    """What a metric means. `unit` is what a value of 1 is one of; shares (0 to 1) have unit `share`."""

    label: str
    unit: str
    description: str
    direction: Direction
    panel: Panel


def _metric(label: str, unit: str, direction: Direction, panel: Panel, description: str) -> MetricInfo:
    return MetricInfo(label, unit, description, direction, panel)


_H, _L, _N = Direction.HIGHER, Direction.LOWER, Direction.NEITHER

METRICS: dict[str, MetricInfo] = {
    # learning
    "eval/accuracy": _metric(
        "Accuracy", "share", _H, Panel.LEARNING, "Sampled completions of held-out prompts whose answer is right."
    ),
    "eval/accuracy_greedy": _metric(
        "Greedy accuracy", "share", _H, Panel.LEARNING, "Greedy completions of held-out prompts whose answer is right."
    ),
    "eval/pass_at_k": _metric(
        "Pass@k",
        "share",
        _H,
        Panel.LEARNING,
        "Held-out prompts with a right answer among their k sampled ones; k is evaluation.num_samples.",
    ),
    "eval/majority_at_k": _metric(
        "Majority@k",
        "share",
        _H,
        Panel.LEARNING,
        "Held-out prompts whose most frequent answer of k sampled ones is right; k is evaluation.num_samples.",
    ),
    "reward": _metric("Reward", "reward", _H, Panel.LEARNING, "Mean reward of the step's completions."),
    "reward_std": _metric(
        "Reward spread", "reward", _N, Panel.LEARNING, "Mean over groups of the standard deviation of the reward."
    ),
    "frac_reward_zero_std": _metric(
        "Dead groups", "share", _L, Panel.LEARNING, "Groups whose rewards are all equal: they teach nothing."
    ),
    # budget
    "tokens/generated": _metric(
        "Tokens generated", "tokens", _N, Panel.BUDGET, "Completion tokens sampled in this step."
    ),
    "tokens/live": _metric(
        "Live tokens",
        "tokens",
        _N,
        Panel.BUDGET,
        "Generated tokens of completions that can move the policy: with an advantage other than 0, or all of them with "
        "a KL term or an entropy bonus; masked truncated ones never.",
    ),
    "tokens/selected": _metric(
        "Tokens trained on",
        "tokens",
        _L,
        Panel.BUDGET,
        "Completion tokens whose loss was back-propagated, once for each of objective.num_iterations.",
    ),
    "tokens/trunk": _metric(
        "Trunk tokens",
        "tokens",
        _L,
        Panel.BUDGET,
        "Prompt and completion tokens that went through the layers for the update, without padding.",
    ),
    "tokens/padded": _metric(
        "Padded trunk tokens", "tokens", _L, Panel.BUDGET, "Trunk tokens with the padding of their micro-batches."
    ),
    "flops/update": _metric(
        "Update FLOPs",
        "FLOP",
        _L,
        Panel.BUDGET,
        "Operations of the update's forward and backward passes, counted from what they ran on.",
    ),
    "budget/fraction": _metric(
        "Share trained on", "share", _L, Panel.BUDGET, "Tokens trained on, of the step's live tokens."
    ),
    "budget/max_weight": _metric(
        "Largest weight", "weight", _L, Panel.BUDGET, "Largest Horvitz-Thompson weight 1/p among the kept tokens."
    ),
    "budget/effective_sample_size": _metric(
        "Effective sample size",
        "share",
        _H,
        Panel.BUDGET,
        "(sum of weights)^2 / sum of squared weights, of the number of kept tokens.",
    ),
    "probe/cosine": _metric(
        "Gradient cosine",
        "cosine",
        _H,
        Panel.BUDGET,
        "Mean cosine of two selections' gradients with the full gradient of the same batch, where probed.",
    ),
    "probe/relative_variance": _metric(
        "Gradient variance",
        "share",
        _L,
        Panel.BUDGET,
        "Mean squared distance of two selections' gradients from the full one, of its squared length, where probed.",
    ),
    # cost
    "timing_s/step": _metric("Step", "s", _L, Panel.COST, "Wall-clock time of the whole step, evaluation left out."),
    "timing_s/rollout": _metric("Rollout", "s", _L, Panel.COST, "Time to sample the completions and score them."),
    "timing_s/update": _metric("Update", "s", _L, Panel.COST, "Time of the update: selection, every pass, optimizer."),
    "timing_s/forward_backward": _metric(
        "Forward+backward", "s", _L, Panel.COST, "Time of the update's forward and backward passes."
    ),
    "perf/peak_memory_gib": _metric(
        "Peak memory",
        "GiB",
        _L,
        Panel.COST,
        "Highest memory during this step's update: allocated on a GPU; on a CPU the process's resident set above its "
        "level before the first update.",
    ),
    "perf/rank_imbalance": _metric(
        "Rank imbalance",
        "times",
        _L,
        Panel.COST,
        "Predicted cost of the update on the rank with most, over the mean; only with several devices.",
    ),
    "perf/tokens_per_s": _metric(
        "Throughput", "tokens/s", _H, Panel.COST, "Generated tokens per second of the whole step."
    ),
    # policy
    "loss": _metric("Loss", "loss", _N, Panel.POLICY, "Horvitz-Thompson estimate of the full policy loss."),
    "grad_norm": _metric("Gradient norm", "norm", _N, Panel.POLICY, "Global norm of the gradient before clipping."),
    "learning_rate": _metric("Learning rate", "1", _N, Panel.POLICY, "Learning rate of this step."),
    "entropy": _metric(
        "Entropy", "nats", _N, Panel.POLICY, "Estimated mean entropy of the next token over live completion tokens."
    ),
    "kl": _metric(
        "KL",
        "nats",
        _N,
        Panel.POLICY,
        "Estimated mean divergence from the initial policy over live tokens, by the loss's estimator (k3 or k2).",
    ),
    "kl_k1": _metric(
        "KL (k1)",
        "nats",
        _N,
        Panel.POLICY,
        "The same by the plain log-ratio: unbiased and noisier, and it may be negative.",
    ),
    "clip_ratio": _metric(
        "Clipped", "share", _N, Panel.POLICY, "Estimated share of live tokens whose ratio was clipped."
    ),
    "rollout_is_ratio": _metric(
        "Rollout correction",
        "ratio",
        _N,
        Panel.POLICY,
        "Estimated mean truncated ratio of the trainer's to the rollout engine's probability over live tokens.",
    ),
    # completions
    "completions/mean_length": _metric(
        "Mean length", "tokens", _N, Panel.COMPLETIONS, "Mean number of tokens in a completion."
    ),
    "completions/clipped_ratio": _metric(
        "Truncated", "share", _L, Panel.COMPLETIONS, "Completions that hit the length limit."
    ),
    "eval/mean_length": _metric(
        "Evaluation length", "tokens", _N, Panel.COMPLETIONS, "Mean number of tokens in a sampled evaluation answer."
    ),
    # system: sampled beside the trainer by its worker, every few seconds
    "system/gpu": _metric(
        "GPU use", "share", _H, Panel.SYSTEM, "Share of the time in which a kernel ran, mean over the run's GPUs."
    ),
    "system/gpu_memory_gib": _metric(
        "GPU memory", "GiB", _L, Panel.SYSTEM, "Highest memory in use on any of the run's GPUs, as its driver counts."
    ),
    "system/gpu_power_w": _metric("GPU power", "W", _N, Panel.SYSTEM, "Power that the run's GPUs draw together."),
    "system/cpu_cores": _metric(
        "Processor", "cores", _N, Panel.SYSTEM, "Cores that the trainer's processes keep busy, mean over the step."
    ),
    "system/memory_gib": _metric(
        "Trainer's memory", "GiB", _L, Panel.SYSTEM, "Highest resident set of the trainer's processes together."
    ),
    "system/host_cpu": _metric(
        "Machine's processor", "share", _N, Panel.SYSTEM, "Share of the machine's cores that anything keeps busy."
    ),
    "system/host_memory_gib": _metric(
        "Machine's memory", "GiB", _N, Panel.SYSTEM, "Highest memory that anything uses on the machine."
    ),
}


_OF_A_SET = re.compile(r"eval/([a-z0-9][a-z0-9_-]{0,39})/(\w+)")
_END = re.compile(r"(eval/(?:[^/]+/)?accuracy)_(low|high)")


def metric_info(key: str) -> MetricInfo | None:
    """What a metric means; of a named set of questions (`eval/<set>/accuracy`) what it means for the run's own.

    An accuracy has two ends of its 95% interval beside it: `eval/accuracy_low` and `eval/accuracy_high`.
    """
    end = _END.fullmatch(key)
    if end is not None:
        info = metric_info(end[1])
        return info and replace(info, label=f"{info.label}, {end[2]} end of 95%")
    named = _OF_A_SET.fullmatch(key)
    if named is None:
        return METRICS.get(key)
    info = METRICS.get(f"eval/{named[2]}")
    return info and replace(info, label=f"{info.label}, {named[1]}")


def interval_keys(key: str) -> tuple[str, str] | None:
    """The metrics that are the ends of a metric's own 95% interval: Wilson's, for these questions, of an accuracy."""
    low, high = f"{key}_low", f"{key}_high"
    return (low, high) if _END.fullmatch(low) and metric_info(key) is not None else None


def evaluation_path(key: str) -> str | None:
    """Where evaluation events hold a metric, as an SQLite JSON path; None for metrics of other events."""
    if not key.startswith("eval/") or metric_info(key) is None:
        return None
    named = _OF_A_SET.fullmatch(key)
    return f"$.{key[5:]}" if named is None else f'$.sets."{named[1]}".{named[2]}'
