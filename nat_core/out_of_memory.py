"""When a step does not fit: how to tell, and what half of it is."""

from __future__ import annotations

import torch

from nat_core.microbatch import MicroBatch
from nat_core.spec import ResourcesSpec


def is_out_of_memory(error: BaseException) -> bool:
    """Also on CPU, where torch raises a `RuntimeError` for it."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def largest(microbatches: list[MicroBatch]) -> int:
    """Tokens of the largest micro-batch, padding included."""
    return max(micro.tokens.num_places for micro in microbatches)


def half_of(microbatches: list[MicroBatch], resources: ResourcesSpec) -> ResourcesSpec:
    """The same with micro-batches of half as many tokens."""
    cap = max(1, largest(microbatches) // 2)
    return resources.model_copy(update={"max_tokens_per_microbatch": cap, "per_device_train_batch_size": None})
