"""The expected cost of one update step: how far each budget lets the layers run, and what that takes.

How far is a chance: `reach(b, T, t)` that token t of a completion of T tokens is run over. Tokens, operations and
memory follow from it. What is not known before a run is assumed and said: completion lengths, that every group
teaches something, and that `optimal` cuts as `linear` does, which it does at first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from nat_core.cost.memory import memory_gib
from nat_core.cost.rates import Rates
from nat_core.cost.shape import ModelShape
from nat_core.spec import BudgetSpec, RunSpec

_CELLS = 64  # of the midpoint rule over long completions

Reach = Callable[[float, int, float], float]


def _linear(b: float, length: int, t: float) -> float:
    high = min(1.0, 1.6 * b)
    return high - (2 * high - 2 * b) * (t - 0.5) / length


def _uniform(b: float, length: int, t: float) -> float:
    always = max(1, math.ceil((2 * b - 1) * length - 1e-9))
    return 1.0 if t <= always else (length - t + 1) / (length - always + 1)


def _to_the_last_kept(b: float, length: int, t: float) -> float:
    return 1 - math.pow(1 - b, length - t + 1)


_LAWS: dict[str, Reach] = {"linear": _linear, "uniform": _uniform, "optimal": _linear}
_SELECTORS: dict[str, Reach] = {
    "full": lambda b, length, t: 1.0,
    "urs": _to_the_last_kept,
    "importance": _to_the_last_kept,
    "top_surprisal": _to_the_last_kept,
    "completions": lambda b, length, t: b,
    "truncate": lambda b, length, t: 1.0 if t <= math.ceil(b * length - 1e-9) else 0.0,
}


@dataclass(frozen=True)
class StepPlan:
    """What one update step is expected to take.

    Attributes:
        tokens_generated: completion tokens of the step.
        tokens_selected: of those, trained on.
        tokens_trunk: prompt and completion tokens that go through the layers.
        flops: operations of forward and backward passes, the head's recomputation not counted.
        num_microbatches: how many.
        largest_microbatch: tokens of the largest.
        memory_gib: by part: weights, gradients, optimizer, reference, and what comes on top: activations, logits.
        seconds: of forward and backward passes; None where the device's rates are not known.
    """

    tokens_generated: int
    tokens_selected: float
    tokens_trunk: float
    flops: float
    num_microbatches: int
    largest_microbatch: float
    memory_gib: dict[str, float]
    seconds: float | None = None

    @property
    def total_gib(self) -> float:
        return sum(self.memory_gib.values())


def plan_step(
    spec: RunSpec, shape: ModelShape, prompt: int, lengths: Sequence[int], rates: Rates | None = None
) -> StepPlan:
    """What a step on completions of these lengths is expected to take, under the spec's budget.

    Args:
        shape: of the model.
        prompt: tokens of each prompt.
        lengths: tokens of each completion, those of a prompt together, `rollout.num_generations` each.
        rates: of the device with this shape, measured in the spec's precision.
    """
    budget, group = spec.budget, spec.rollout.num_generations
    reach, b, cost = _reach(budget), _fraction(budget), shape.adapted_cost(spec.model.lora)
    own = attention = kept = prompts = 0.0
    untouched = 1.0
    for i, length in enumerate(lengths):
        first = reach(b, length, 1)
        kept += _kept(budget, b, length)
        # The last token that is reached is only predicted: K reached tokens are K - 1 read ones.
        reached = partial(reach, b, length)
        own += _sum(reached, 2, length)
        attention += cost.attention(prompt) * first + cost.attention(1) / 2 * _pairs(reached, prompt, length)
        untouched *= 1 - first
        if (i + 1) % group == 0 or i + 1 == len(lengths):
            prompts += prompt * (1 - untouched)
            untouched = 1.0
    trunk = own + prompts
    count, largest = _microbatches(spec, trunk, len(lengths), prompt + max(lengths, default=0))
    return StepPlan(
        tokens_generated=sum(lengths),
        tokens_selected=kept,
        tokens_trunk=trunk,
        flops=cost.linear(trunk) + attention + cost.head(kept),
        num_microbatches=count,
        largest_microbatch=largest,
        memory_gib=memory_gib(spec, shape, count, largest, kept / count),
        seconds=rates.seconds(count, trunk, attention, kept) if rates else None,
    )


def _pairs(reached: Callable[[float], float], prompt: int, length: int) -> float:
    """What the tokens read of a completion add to n(n + 1), n the length of the sequence."""
    return _sum(lambda t: 2 * (prompt + t - 1) * reached(t), 2, length)


def _reach(budget: BudgetSpec) -> Reach:
    return _LAWS[budget.law] if budget.selector == "rpc" else _SELECTORS[budget.selector]


def _fraction(budget: BudgetSpec) -> float:
    return 1.0 if budget.selector == "full" else budget.fraction


def _kept(budget: BudgetSpec, b: float, length: int) -> float:
    if budget.selector == "truncate":
        return math.ceil(b * length - 1e-9)
    if budget.selector == "rpc" and budget.law == "uniform":
        return (max(1, math.ceil((2 * b - 1) * length - 1e-9)) + length) / 2
    return b * length


def _sum(value: Callable[[float], float], first: int, last: int) -> float:
    """Of value(t) over whole t; over long spans by the midpoint rule."""
    count = last - first + 1
    if count <= _CELLS:
        return sum(value(t) for t in range(first, last + 1))
    width = count / _CELLS
    return width * sum(value(first - 0.5 + (cell + 0.5) * width) for cell in range(_CELLS))


def _microbatches(spec: RunSpec, trunk: float, num_rows: int, longest: int) -> tuple[int, float]:
    size, cap = spec.resources.per_device_train_batch_size, spec.resources.max_tokens_per_microbatch
    count = max(1, math.ceil(num_rows / size if size is not None else trunk / cap))
    return count, max(trunk / count, min(longest, trunk))
