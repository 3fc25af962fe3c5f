"""What a step is expected to be made of before any was run: the one set of assumptions behind every plan.

Lengths of completions are not known before any was sampled, so they are assumed, said with the plan, and open to
better knowledge.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from nat_core.cost.plan import StepPlan, plan_step
from nat_core.cost.rates import Rates
from nat_core.cost.shape import ModelShape
from nat_core.spec import RunSpec

_FEW_ROWS, _MOST_ROWS = 256, 4096
_ENOUGH = 16
"""A step is planned on some of its completions and scaled, if those fill so many micro-batches: the last one, which
is not full, then hardly tells."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of each prompt, and of a completion on average; completions spread evenly by up to 3/4 of it."""

    prompt: int
    completion: int


def expected_lengths(spec: RunSpec, prompt: int | None = None, completion: int | None = None) -> Lengths:
    """What is given, else what the demo's task makes, else a quarter of the longest prompt and half of a completion."""
    rollout, data = spec.rollout, spec.data
    usual = Lengths(max(1, rollout.max_prompt_length // 4), max(1, rollout.max_completion_length // 2))
    if data.type == "demo_arithmetic":  # 3 tokens an operation and 2 around them; worked out 7 each, and the answer
        operations = (data.min_operations + data.max_operations) / 2
        usual = Lengths(round(3 * operations + 2), min(rollout.max_completion_length, round(7 * operations + 3)))
    return Lengths(prompt or usual.prompt, completion or usual.completion)


def spread(mean: int, longest: int, count: int) -> list[int]:
    """So many lengths, evenly from a quarter of the mean to 7/4 of it; closer to it where the longest is nearer."""
    middle = min(mean, longest)
    reach = min(0.75 * middle, longest - middle)
    return [max(1, round(middle + reach * (2 * (i + 0.5) / count - 1))) for i in range(count)]


def expected_step(spec: RunSpec, shape: ModelShape, lengths: Lengths, rates: Rates | None = None) -> StepPlan:
    """What an update step under the spec's budget is expected to take; a large one is planned in part and scaled."""
    rollout = spec.rollout
    num_groups = max(1, _FEW_ROWS // rollout.num_generations)
    while True:
        used = min(rollout.num_prompts, num_groups)
        rows = used * rollout.num_generations
        drawn = spread(lengths.completion, rollout.max_completion_length, rows)
        random.Random(0).shuffle(drawn)  # those of a prompt are not those of like length
        plan = plan_step(spec, shape, lengths.prompt, drawn, rates)
        if used == rollout.num_prompts:
            return plan
        if plan.num_microbatches >= _ENOUGH or rows >= _MOST_ROWS:
            return _scaled(plan, rollout.num_prompts / used)
        num_groups *= 4


def _scaled(plan: StepPlan, times: float) -> StepPlan:
    return replace(
        plan,
        tokens_generated=round(times * plan.tokens_generated),
        tokens_selected=times * plan.tokens_selected,
        tokens_trunk=times * plan.tokens_trunk,
        flops=times * plan.flops,
        num_microbatches=round(times * plan.num_microbatches),
        seconds=None if plan.seconds is None else times * plan.seconds,
    )
