"""Micro-batches of cut completions: what is computed together, and how it is laid out.

Packed rows cost what their tokens cost, so neighbours are those that share a prompt. Padded rows cost what the longest
of them costs, so neighbours are those of like length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nat_core.cost import TokenCost
from nat_core.layout import Laid, Packed, Padded, pack, pad
from nat_core.spec import ResourcesSpec
from nat_core.token_selection import TokenSelection

Layout = Literal["packed", "padded"]


@dataclass(frozen=True)
class MicroBatch:
    """Some rows of an optimizer step.

    Attributes:
        rows: Long [b], their indices in the step.
        laid: prompts and kept prefixes without their last tokens, laid out for the trunk.
        targets: Long [b, T], completion ids as far as kept, 0 beyond; T is the step's longest completion.
    """

    rows: Tensor
    laid: Laid
    targets: Tensor

    @property
    def tokens(self) -> Padded | Packed:
        """What the trunk runs on."""
        return self.laid.tokens

    def predicted_at(self, row: Tensor, position: Tensor) -> Tensor:
        """Places in the trunk's output that predict these tokens: Long [S] from Long [S] and Long [S] (0-based)."""
        return torch.where(position == 0, self.laid.before[row], self.laid.own[row] + position - 1)


@dataclass(frozen=True)
class Row:
    """A row that keeps something.

    Its last kept token is only predicted, never read: the trunk stops one short of it.

    Attributes:
        prompt: what tells prompts apart.
        num_own: tokens of the completion that the trunk reads.
    """

    index: int
    prompt: bytes
    num_prompt: int
    num_own: int

    @property
    def length(self) -> int:
        return self.num_prompt + self.num_own


def plan_microbatches(
    prompts: list[Tensor],
    completions: list[Tensor],
    selection: TokenSelection,
    resources: ResourcesSpec,
    layout: Layout = "packed",
    shares: Sequence[Sequence[int]] | None = None,
    rank: int = 0,
    cost: TokenCost | None = None,
) -> list[MicroBatch]:
    """Split the rows that keep anything into micro-batches that are as even as can be.

    With `per_device_train_batch_size` their number is what that many rows a micro-batch make of all rows; else the
    smallest with which each holds at most `max_tokens_per_microbatch` tokens, padding included (a longer row stands
    alone). Given the number, the largest is made as small as possible: that is what memory is needed for. Of what is
    then left open, rows are cut so that the dearest micro-batch costs as little as possible.

    Args:
        cost: what tokens cost, attention included; without it every token costs the same.
        shares: the rows of each rank, where there are several. All get as many micro-batches, those that would have
            fewer a last one without rows: in each, every rank has to take part.
        rank: whose micro-batches to make.
    """
    kept = selection.kept_length.tolist()
    rows = [
        Row(i, prompts[i].numpy().tobytes(), len(prompts[i]), length - 1) for i, length in enumerate(kept) if length > 0
    ]
    if not rows:
        return []
    order, sizes, lay = _LAYOUTS[layout]
    chosen = [set(range(len(kept)))] if shares is None else [set(share) for share in shares]
    of_ranks = [order([row for row in rows if row.index in share]) for share in chosen]
    if resources.per_device_train_batch_size is not None:
        count = math.ceil(len(kept) / (resources.per_device_train_batch_size * len(of_ranks)))
    else:
        cap = resources.max_tokens_per_microbatch
        count = max(len(split_by_cap(len(of), cap, sizes(of))) for of in of_ranks if of)
    runs = [_even_runs(sizes(of), _costs(of, layout, sizes(of), cost), len(of), count) if of else [] for of in of_ranks]
    width = selection.keep.shape[1]
    plan = [_collate(of_ranks[rank][start:end], prompts, completions, lay, width) for start, end in runs[rank]]
    idle = max(map(len, runs)) - len(plan)
    return plan + [_without_rows(prompts, lay, width)] * idle


Size = Callable[[int, int], float]
"""Of rows start to end: their tokens as laid out, or what those cost."""
Fits = Callable[[int, int], bool]
Run = tuple[int, int]


def split_by_cap(num_rows: int, cap: float, size: Size, fits: Fits = lambda start, end: True) -> list[Run]:
    """Cut rows, in their order, into runs [start, end) of at most `cap` each that fit, or of one row."""
    runs, start = [], 0
    for end in range(1, num_rows + 1):
        if end == num_rows or size(start, end + 1) > cap or not fits(start, end + 1):
            runs.append((start, end))
            start = end
    return runs


def smallest_cap(num_rows: int, count: int, size: Size, fits: Fits = lambda start, end: True) -> int:
    """The smallest whole cap under which `split_by_cap` makes at most `count` runs."""
    low, high = 1, math.ceil(size(0, num_rows))
    while low < high:
        middle = (low + high) // 2
        if len(split_by_cap(num_rows, middle, size, fits)) <= count:
            high = middle
        else:
            low = middle + 1
    return low


def _even_runs(size: Size, cost: Size, num_rows: int, count: int) -> list[Run]:
    cap = smallest_cap(num_rows, count, size)

    def fits(start: int, end: int) -> bool:
        return size(start, end) <= cap

    return split_by_cap(num_rows, smallest_cap(num_rows, count, cost, fits), cost, fits)


def _costs(rows: Sequence[Row], layout: Layout, size: Size, cost: TokenCost | None) -> Size:
    """What rows start to end cost, in thousandths of the dearest row."""
    if cost is None:
        return size
    linear = float(cost.linear(1))
    if layout == "padded":  # rows of falling length

        def whole(start: int, end: int) -> float:
            return (end - start) * float(cost.trunk(rows[start].length))
    else:
        before = [0.0, *itertools.accumulate(float(cost.attention(row.length)) for row in rows)]

        def whole(start: int, end: int) -> float:
            return linear * size(start, end) + before[end] - before[start]

    unit = max(whole(i, i + 1) for i in range(len(rows))) / 1000
    return lambda start, end: whole(start, end) / unit


def packed_size(rows: Sequence[Row]) -> Size:
    """Tokens of rows end to end, a prompt once for neighbours that share it."""
    shares = [i > 0 and row.prompt == rows[i - 1].prompt for i, row in enumerate(rows)]
    added = [row.num_own if shared else row.length for row, shared in zip(rows, shares, strict=True)]
    before = [0, *itertools.accumulate(added)]
    again = [row.num_prompt if shared else 0 for row, shared in zip(rows, shares, strict=True)]
    return lambda start, end: before[end] - before[start] + again[start]


def padded_size(rows: Sequence[Row]) -> Size:
    """Tokens of rows of falling length, padded to the longest."""
    return lambda start, end: rows[start].length * (end - start)


def _by_prompt(rows: list[Row]) -> list[Row]:
    """Rows of one prompt together, in the order in which prompts come, longest first."""
    place = {row.prompt: -row.index for row in reversed(rows)}
    return sorted(rows, key=lambda row: (-place[row.prompt], -row.num_own))


def _by_length(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -row.length)


Order = Callable[[list[Row]], list[Row]]
Sizes = Callable[[Sequence[Row]], Size]
Lay = Callable[[list[Tensor], list[Tensor]], Laid]

_LAYOUTS: dict[Layout, tuple[Order, Sizes, Lay]] = {
    "packed": (_by_prompt, packed_size, pack),
    "padded": (_by_length, padded_size, pad),
}


def _collate(
    rows: Sequence[Row],
    prompts: list[Tensor],
    completions: list[Tensor],
    lay: Lay,
    width: int,
) -> MicroBatch:
    targets = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        targets[place, : row.num_own + 1] = completions[row.index][: row.num_own + 1]
    laid = lay([prompts[row.index] for row in rows], [completions[row.index][: row.num_own] for row in rows])
    return MicroBatch(torch.tensor([row.index for row in rows]), laid, targets)


def _without_rows(prompts: list[Tensor], lay: Lay, width: int) -> MicroBatch:
    """One token goes through the layers, and nothing is made of it."""
    laid = lay([prompts[0][:1]], [prompts[0][:0]])
    return MicroBatch(torch.zeros(0, dtype=torch.long), laid, torch.zeros(0, width, dtype=torch.long))
