"""When a step does not fit: how to tell, and how it is done over in halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from nat_core.errors import StepMemoryError
from nat_core.microbatch import MicroBatch
from nat_core.model import Policy
from nat_core.spec import ResourcesSpec

T = TypeVar("T")
Plan = list[MicroBatch]

_REMEDY = "lower resources.max_tokens_per_microbatch or turn on model.gradient_checkpointing"
_SAID = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How torch says it without a class of its own: of a CPU's allocator, of CUDA itself, of cuBLAS for its workspace."""


def is_out_of_memory(error: BaseException) -> bool:
    """Also where torch raises a plain `RuntimeError` for it."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID))


def run_or_halve(
    policy: Policy,
    resources: ResourcesSpec,
    plan_for: Callable[[ResourcesSpec], Plan],
    run: Callable[[Plan], T],
    forget: Callable[[], None] = lambda: None,
) -> tuple[T, str | None]:
    """What `run` makes of the planned micro-batches; done once more, whole, with half as large ones if memory runs out.

    Of several ranks one that runs out of memory has left the others in the middle of a pass, so it ends the run.

    Args:
        forget: called before the second try; undoes what the first one left.

    Returns:
        What it made, and a warning for the log where it took two tries.

    Raises:
        StepMemoryError: half was still too much.
    """
    plan = plan_for(resources)
    tried = f"out of memory with micro-batches of {_largest(plan):,} tokens"
    try:
        return run(plan), None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if not policy.ranks.alone:
            raise StepMemoryError(f"rank {policy.ranks.rank} is {tried}; {_REMEDY}") from error
    # Outside of `except`: the error's traceback, and what its frames held, are gone.
    forget()
    if policy.device.type == "cuda":
        torch.cuda.empty_cache()
    smaller = plan_for(_half_of(plan, resources))
    try:
        found = run(smaller)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise StepMemoryError(f"{tried} and again with {_largest(smaller):,} ({reason}); {_REMEDY}") from error
    warning = f"{tried}; the step was done over with {_largest(smaller):,}, which takes longer: {_REMEDY}"
    return found, warning


def _largest(plan: Plan) -> int:
    """Tokens of the largest micro-batch, padding included."""
    return max((micro.tokens.num_places for micro in plan), default=0)


def _half_of(plan: Plan, resources: ResourcesSpec) -> ResourcesSpec:
    """The same with micro-batches of half as many tokens."""
    cap = max(1, _largest(plan) // 2)
    return resources.model_copy(update={"max_tokens_per_microbatch": cap, "per_device_train_batch_size": None})
