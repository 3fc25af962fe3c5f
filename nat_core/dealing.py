"""Which rank trains on which rows: so that all of them finish together.

Rows are dealt by what they are predicted to cost, after they are cut. Cuts are drawn for the step as a whole, so their
couplings (`budget.coupling`) hold over all ranks. A prompt that several rows share is computed once on each rank that
has one of them, so groups stay together, except where parting them makes the slowest rank faster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cost:
    """What a row costs: by itself, and what it shares with the others of its prompt.

    Attributes:
        row: its index in the step.
        prompt: what tells prompts apart.
    """

    row: int
    prompt: bytes
    own: float
    shared: float


@dataclass(frozen=True)
class Shares:
    """The rows of each rank, in rising order, and what they cost."""

    rows: list[list[int]]
    costs: list[float]

    @property
    def imbalance(self) -> float:
        """Cost of the slowest rank over the mean; 1 is even."""
        total = sum(self.costs)
        return max(self.costs) * len(self.costs) / total if total else 1.0


@dataclass
class _Hand:
    """What one rank holds."""

    rows: list[Cost] = field(default_factory=list)
    prompts: Counter[bytes] = field(default_factory=Counter)
    load: float = 0.0

    def with_(self, row: Cost) -> float:
        """The load with this row."""
        return self.load + row.own + (0.0 if self.prompts[row.prompt] else row.shared)

    def without(self, row: Cost) -> float:
        """The load without this row, which is held."""
        return self.load - row.own - (row.shared if self.prompts[row.prompt] == 1 else 0.0)

    def take(self, row: Cost) -> None:
        self.load = self.with_(row)
        self.rows.append(row)
        self.prompts[row.prompt] += 1

    def give(self, row: Cost) -> None:
        self.load = self.without(row)
        self.rows.remove(row)
        self.prompts[row.prompt] -= 1


def deal(costs: Sequence[Cost], size: int) -> Shares:
    """Deal rows to so many ranks; the same on every rank that knows the same costs.

    First whole groups, each to the rank with least, dearest first. Then, as long as that lowers the higher of the two,
    one row from the rank with most to the rank with least. So in the end the two differ by no more than the cheapest
    row of the first, its prompt included.
    """
    hands = [_Hand() for _ in range(size)]
    groups: dict[bytes, list[Cost]] = {}
    for cost in costs:
        groups.setdefault(cost.prompt, []).append(cost)
    for group in sorted(groups.values(), key=lambda rows: -(rows[0].shared + sum(row.own for row in rows))):
        hand = min(hands, key=lambda hand: hand.load)
        for row in group:
            hand.take(row)
    while _move_one(hands):
        pass
    return Shares([sorted(cost.row for cost in hand.rows) for hand in hands], [hand.load for hand in hands])


def _move_one(hands: list[_Hand]) -> bool:
    """Move the row that helps most from the rank with most to the rank with least; False where none helps."""
    most, least = max(hands, key=lambda hand: hand.load), min(hands, key=lambda hand: hand.load)
    if not most.rows:
        return False
    row = min(most.rows, key=lambda row: max(most.without(row), least.with_(row)))
    if max(most.without(row), least.with_(row)) >= most.load * (1 - 1e-9):  # rounding must not move rows for ever
        return False
    most.give(row)
    least.take(row)
    return True
