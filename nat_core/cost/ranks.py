"""What a step takes where several devices train one run: of each of them, not of all together.

Weights, gradients, optimizer and reference are cut over the ranks, and each has micro-batches of its own. Two things
come on top that a run on one device has not (`nat_core.sharding`): the weights that a pass gathers, a layer at a time,
and, for as long as completions are sampled, a whole copy of the model. What is told is the larger of the two phases.
Seconds leave out what the devices say to each other.
"""

from __future__ import annotations

import math
from dataclasses import replace

from nat_core.cost import expected
from nat_core.cost.expected import Lengths
from nat_core.cost.memory import COPIES, copies
from nat_core.cost.plan import StepPlan
from nat_core.cost.rates import Rates
from nat_core.cost.shape import ModelShape
from nat_core.spec import RunSpec

_GIB = 1024**3
_CUT = ("weights", "gradients", "optimizer", "reference")


def num_ranks(spec: RunSpec) -> int:
    """How many devices the spec asks for."""
    return max(1, spec.resources.gpus or 1)


def expected_step(spec: RunSpec, shape: ModelShape, lengths: Lengths, rates: Rates | None = None) -> StepPlan:
    """What an update step under the spec's budget is expected to take, on as many devices as the spec asks for.

    Tokens and operations are of all devices together; micro-batches, memory and seconds of each.

    Args:
        rates: of one device.
    """
    together, ranks = expected.expected_step(spec, shape, lengths, rates), num_ranks(spec)
    if ranks == 1:
        return together
    own = expected.expected_step(_share(spec, ranks), shape, lengths, rates)
    return replace(
        together,
        num_microbatches=own.num_microbatches,
        largest_microbatch=own.largest_microbatch,
        selected_of_largest=own.selected_of_largest,
        memory_gib=_memory(own.memory_gib, spec, shape, ranks),
        seconds=own.seconds,
    )


def _share(spec: RunSpec, ranks: int) -> RunSpec:
    """A rank's part of the step: whole groups where there are enough of them, else a part of one."""
    rollout = spec.rollout
    prompts = math.ceil(rollout.num_prompts / ranks)
    group = rollout.num_generations
    if rollout.num_prompts < ranks:
        group = math.ceil(rollout.num_prompts * group / ranks)
    part = rollout.model_copy(update={"num_prompts": prompts, "num_generations": group})
    return spec.model_copy(update={"rollout": part})


def _memory(alone: dict[str, float], spec: RunSpec, shape: ModelShape, ranks: int) -> dict[str, float]:
    cut = {name: size / ranks for name, size in alone.items() if name in _CUT}
    rest = {name: size for name, size in alone.items() if name not in _CUT and name != COPIES}
    update = {**cut, "gathered": _gathered(spec, shape) / _GIB, **rest}
    sampling = {**cut, "copy for sampling": 4 * shape.parameters / _GIB}
    return max(update, sampling, key=lambda parts: sum(parts.values()))


def _gathered(spec: RunSpec, shape: ModelShape) -> float:
    """Bytes of whole weights at hand in a pass: a layer's and the next one's, and those that no layer owns.

    The gradients of a layer and of the latter are whole, too, until they are summed. In bfloat16 the layers' copies
    stay from the forward to the backward pass, unless that makes them again.
    """
    layers = shape.token_cost.trunk_weights
    layer, others = layers / shape.layers, shape.parameters - layers
    kept = 0.0 if spec.model.gradient_checkpointing else copies(spec.model, shape)
    return 4 * (2 * layer + others) + 4 * (layer + others) + kept
