"""Which rows of a step are computed together: in what order they come, and where that is cut. No torch here.

Packed rows cost what their tokens cost, so neighbours are those that share a prompt. Padded rows cost what the longest
of them costs, so neighbours are those of like length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from nat_core.cost.flops import TokenCost
from nat_core.spec import ResourcesSpec

Layout = Literal["packed", "padded"]


@dataclass(frozen=True)
class Row:
    """A row that keeps something.

    Its last kept token is only predicted, never read: the trunk stops one short of it.

    Attributes:
        prompt: what tells prompts apart.
        num_own: tokens of the completion that the trunk reads.
    """

    index: int
    prompt: Hashable
    num_prompt: int
    num_own: int

    @property
    def length(self) -> int:
        return self.num_prompt + self.num_own


def split_rows(
    of_ranks: Sequence[list[Row]],
    num_rows: int,
    resources: ResourcesSpec,
    layout: Layout = "packed",
    cost: TokenCost | None = None,
) -> list[list[list[Row]]]:
    """The micro-batches of each rank, as even as can be.

    With `per_device_train_batch_size` their number is what that many rows a micro-batch make of all rows; else the
    smallest with which each holds at most `max_tokens_per_microbatch` tokens, padding included (a longer row stands
    alone). Given the number, the largest is made as small as possible: that is what memory is needed for. Of what is
    then left open, rows are cut so that the dearest micro-batch costs as little as possible.

    Args:
        of_ranks: the rows of each rank that keep anything, in any order.
        num_rows: of the whole step, with those that keep nothing.
        cost: what tokens cost, attention included; without it every token costs the same.
    """
    order, sizes = _LAYOUTS[layout]
    of_ranks = [order(rows) for rows in of_ranks]
    if resources.per_device_train_batch_size is not None:
        count = math.ceil(num_rows / (resources.per_device_train_batch_size * len(of_ranks)))
    else:
        cap = resources.max_tokens_per_microbatch
        count = max((len(split_by_cap(len(rows), cap, sizes(rows))) for rows in of_ranks if rows), default=0)
    found = []
    for rows in of_ranks:
        runs = _even_runs(sizes(rows), _costs(rows, layout, sizes(rows), cost), len(rows), count) if rows else []
        found.append([rows[start:end] for start, end in runs])
    return found


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


_LAYOUTS: dict[Layout, tuple[Callable[[list[Row]], list[Row]], Callable[[Sequence[Row]], Size]]] = {
    "packed": (_by_prompt, packed_size),
    "padded": (_by_length, padded_size),
}
