"""The expected cost of one update step: how far each budget lets the layers run, and what that takes.

How far is a chance (`nat_core.cost.reach`). Tokens and operations follow from it, and memory from the micro-batches of
steps drawn by it. What is not known before a run is assumed and said: completion lengths, and that every group teaches
something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from nat_core.cost.drawn import expected_split
from nat_core.cost.memory import memory_gib
from nat_core.cost.rates import Rates
from nat_core.cost.reach import fraction_of, kept_of, reach_of
from nat_core.cost.shape import ModelShape
from nat_core.spec import RunSpec

_CELLS = 64  # of the midpoint rule over long completions


@dataclass(frozen=True)
class StepPlan:
    """What one update step is expected to take.

    Attributes:
        tokens_generated: completion tokens of the step.
        tokens_selected: of those, trained on.
        tokens_trunk: prompt and completion tokens that go through the layers.
        flops: operations of forward and backward passes, the head's recomputation not counted.
        num_microbatches: how many.
        largest_microbatch: tokens of the largest, on average.
        selected_of_largest: of those, trained on.
        memory_gib: by part: weights, gradients, optimizer, reference, and what comes on top: activations, logits.
        seconds: of forward and backward passes; None where the device's rates are not known.
    """

    tokens_generated: int
    tokens_selected: float
    tokens_trunk: float
    flops: float
    num_microbatches: int
    largest_microbatch: float
    selected_of_largest: float
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
    reach, b, cost = reach_of(budget), fraction_of(budget), shape.adapted_cost(spec.model.lora)
    own = attention = kept = prompts = 0.0
    untouched = 1.0
    for i, length in enumerate(lengths):
        first = reach(b, length, 1)
        kept += kept_of(budget, length)
        # The last token that is reached is only predicted: K reached tokens are K - 1 read ones.
        reached = partial(reach, b, length)
        own += _sum(reached, 2, length)
        attention += cost.attention(prompt) * first + cost.attention(1) / 2 * _pairs(reached, prompt, length)
        untouched *= 1 - first
        if (i + 1) % group == 0 or i + 1 == len(lengths):
            prompts += prompt * (1 - untouched)
            untouched = 1.0
    trunk = own + prompts
    count, largest = expected_split(spec, prompt, lengths, cost)
    selected = kept * largest / trunk if trunk else 0.0
    return StepPlan(
        tokens_generated=sum(lengths),
        tokens_selected=kept,
        tokens_trunk=trunk,
        flops=cost.linear(trunk) + attention + cost.head(kept),
        num_microbatches=max(1, round(count)),
        largest_microbatch=largest,
        selected_of_largest=selected,
        memory_gib=memory_gib(spec, shape, math.ceil(count), largest, selected),
        seconds=rates.seconds(count, trunk, attention, kept) if rates else None,
    )


def _pairs(reached: Callable[[float], float], prompt: int, length: int) -> float:
    """What the tokens read of a completion add to n(n + 1), n the length of the sequence."""
    return _sum(lambda t: 2 * (prompt + t - 1) * reached(t), 2, length)


def _sum(value: Callable[[float], float], first: int, last: int) -> float:
    """Of value(t) over whole t; over long spans by the midpoint rule."""
    count = last - first + 1
    if count <= _CELLS:
        return sum(value(t) for t in range(first, last + 1))
    width = count / _CELLS
    return width * sum(value(first - 0.5 + (cell + 0.5) * width) for cell in range(_CELLS))
