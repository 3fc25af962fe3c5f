"""Steps drawn as a budget draws them, to see what micro-batches they make: the largest decides about memory.

Of a few rows some are cut late and some early, so the largest is larger than the mean. No torch here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import fmean

from nat_core.cost.flops import TokenCost
from nat_core.cost.reach import Reach, fraction_of, reach_of
from nat_core.cost.splitting import Row, packed_size, split_rows
from nat_core.spec import BudgetSpec, RunSpec

_ROWS = 2048  # drawn in all; a large step varies less, so fewer of it do
_GOLDEN = (5**0.5 - 1) / 2


def expected_split(
    spec: RunSpec, prompt: int, lengths: Sequence[int], cost: TokenCost | None = None
) -> tuple[float, float]:
    """How many micro-batches a step makes, and tokens of the largest, each on average.

    Args:
        prompt: tokens of each prompt.
        lengths: tokens of each completion, those of a prompt together, `rollout.num_generations` each.
        cost: what tokens cost.
    """
    source, found = random.Random(0), []
    for _ in range(max(1, _ROWS // max(1, len(lengths)))):
        rows = _drawn(spec, prompt, lengths, source)
        (runs,) = split_rows([rows], len(lengths), spec.resources, cost=cost)
        if runs:
            found.append((len(runs), max(packed_size(run)(0, len(run)) for run in runs)))
    if not found:
        return 1.0, 0.0
    counts, largest = zip(*found, strict=True)
    return fmean(counts), fmean(largest)


def _drawn(spec: RunSpec, prompt: int, lengths: Sequence[int], source: random.Random) -> list[Row]:
    """The rows of one step that keep anything."""
    budget, group = spec.budget, spec.rollout.num_generations
    reach, b = reach_of(budget), fraction_of(budget)
    cuts = [_cut(reach, b, length, u) for length, u in zip(lengths, _uniforms(budget, lengths, source), strict=True)]
    return [Row(i, i // group, prompt, cut - 1) for i, cut in enumerate(cuts) if cut > 0]


def _cut(reach: Reach, b: float, length: int, uniform: float) -> int:
    """The last position whose chance is above a number that is uniform on [0, 1); 0 where none is."""
    low, high = 0, length
    while low < high:
        middle = (low + high + 1) // 2
        if reach(b, length, middle) > uniform:
            low = middle
        else:
            high = middle - 1
    return low


def _uniforms(budget: BudgetSpec, lengths: Sequence[int], source: random.Random) -> list[float]:
    """One number a completion, coupled as the budget says; see `nat_core.token_selection.prefix`."""
    ordered = _COUPLED[budget.coupling if budget.selector == "rpc" else "iid"](len(lengths), source)
    found = [0.0] * len(lengths)
    for rank, index in enumerate(sorted(range(len(lengths)), key=lambda i: lengths[i])):
        found[index] = ordered[rank]
    return found


def _antithetic(count: int, source: random.Random) -> list[float]:
    base = [source.random() for _ in range((count + 1) // 2)]
    return [value for u in base for value in (u, 1 - u)][:count]


def _systematic(count: int, source: random.Random) -> list[float]:
    start = source.random()
    return [(start + rank * _GOLDEN) % 1 for rank in range(count)]


_COUPLED: dict[str, Callable[[int, random.Random], list[float]]] = {
    "iid": lambda count, source: [source.random() for _ in range(count)],
    "antithetic": _antithetic,
    "systematic": _systematic,
}
