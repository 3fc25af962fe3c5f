"""Micro-batches of cut completions, sorted by length so that little padding is paid for.

On a CPU a dense packed mask would cost O(length²), so rows stand right-padded under causal
attention, neighbours in length together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nat_core.spec import ResourcesSpec
from nat_core.token_selection import TokenSelection


@dataclass(frozen=True)
class MicroBatch:
    """Some rows of an optimizer step.

    Attributes:
        rows: Long [b], their indices in the step.
        input_ids: Long [b, L], prompt and kept prefix without its last token, right-padded.
        prompt_lengths: Long [b].
        targets: Long [b, T], completion ids as far as kept, 0 beyond; T is the step's longest completion.
        num_tokens: input tokens without padding.
    """

    rows: Tensor
    input_ids: Tensor
    prompt_lengths: Tensor
    targets: Tensor
    num_tokens: int


def plan_microbatches(
    prompts: list[Tensor], completions: list[Tensor], selection: TokenSelection, resources: ResourcesSpec
) -> list[MicroBatch]:
    """Split the rows that keep anything into micro-batches, longest first.

    With `per_device_train_batch_size` their number is what that many rows a micro-batch make of all rows, and they are
    cut so that the largest is as small as possible; else each holds at most `max_tokens_per_microbatch` padded tokens
    (a longer row stands alone).
    """
    kept = selection.kept_length.tolist()
    # The last kept token is only predicted, never read: the trunk stops one short of it.
    lengths = {i: len(prompts[i]) + k - 1 for i, k in enumerate(kept) if k > 0}
    order = sorted(lengths, key=lambda i: -lengths[i])
    sizes = [lengths[i] for i in order]
    if resources.per_device_train_batch_size is not None:
        count = math.ceil(len(kept) / resources.per_device_train_batch_size)
        cap = smallest_cap(sizes, count)
    else:
        cap = resources.max_tokens_per_microbatch
    width = selection.keep.shape[1]
    return [_collate(order[start:end], prompts, completions, kept, width) for start, end in split_by_cap(sizes, cap)]


def split_by_cap(sizes: list[int], cap: int) -> list[tuple[int, int]]:
    """Cut falling `sizes` into runs [start, end) whose padded size, count x first, is at most `cap` each."""
    runs, start = [], 0
    for end in range(1, len(sizes) + 1):
        if end == len(sizes) or sizes[start] * (end + 1 - start) > cap:
            runs.append((start, end))
            start = end
    return runs


def smallest_cap(sizes: list[int], count: int) -> int:
    """The smallest cap under which `split_by_cap` makes at most `count` runs of falling `sizes`."""
    if not sizes:
        return 1
    low, high = sizes[0], sizes[0] * len(sizes)
    while low < high:
        middle = (low + high) // 2
        if len(split_by_cap(sizes, middle)) <= count:
            high = middle
        else:
            low = middle + 1
    return low


def _collate(
    rows: list[int], prompts: list[Tensor], completions: list[Tensor], kept: list[int], width: int
) -> MicroBatch:
    inputs = [torch.cat([prompts[i], completions[i][: kept[i] - 1]]) for i in rows]
    targets = torch.zeros(len(rows), width, dtype=torch.long)
    for place, i in enumerate(rows):
        targets[place, : kept[i]] = completions[i][: kept[i]]
    return MicroBatch(
        rows=torch.tensor(rows),
        input_ids=torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=0),
        prompt_lengths=torch.tensor([len(prompts[i]) for i in rows]),
        targets=targets,
        num_tokens=sum(map(len, inputs)),
    )
