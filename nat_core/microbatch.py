"""Micro-batches of cut completions: what is computed together, laid out for the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nat_core.cost import TokenCost
from nat_core.cost.splitting import Layout, Row, split_rows
from nat_core.layout import Laid, Packed, Padded, pack, pad
from nat_core.spec import ResourcesSpec
from nat_core.token_selection import TokenSelection


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
    """Split the rows that keep anything into micro-batches, as `nat_core.cost.splitting` says.

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
    chosen = [set(range(len(kept)))] if shares is None else [set(share) for share in shares]
    of_ranks = [[row for row in rows if row.index in share] for share in chosen]
    runs = split_rows(of_ranks, len(kept), resources, layout, cost)
    lay, width = _LAYS[layout], selection.keep.shape[1]
    plan = [_collate(run, prompts, completions, lay, width) for run in runs[rank]]
    idle = max(map(len, runs)) - len(plan)
    return plan + [_without_rows(prompts, lay, width)] * idle


Lay = Callable[[list[Tensor], list[Tensor]], Laid]

_LAYS: dict[Layout, Lay] = {"packed": pack, "padded": pad}


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
