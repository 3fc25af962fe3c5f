"""Rows dealt to ranks, and the micro-batches that they then run."""

from __future__ import annotations

import random

import pytest
import torch

from nat_core.dealing import Cost, deal
from nat_core.microbatch import plan_microbatches
from nat_core.spec import FullBudget, ResourcesSpec
from nat_core.token_selection import select_tokens
from tests.nat_core.builders import batch


def test_deal_keeps_groups_whole_where_that_is_even() -> None:
    costs = [Cost(i, prompt, 1.0, 3.0) for i, prompt in enumerate([b"a", b"b", b"a", b"b"])]
    shares = deal(costs, 2)
    assert shares.rows == [[0, 2], [1, 3]] and shares.costs == [5.0, 5.0] and shares.imbalance == 1


def test_deal_parts_a_group_where_that_ends_sooner() -> None:
    # Whole: 3 + 4 x 2 = 11 against 0. Parted: both compute the prompt, 3 + 2 x 2 = 7.
    shares = deal([Cost(i, b"a", 2.0, 3.0) for i in range(4)], 2)
    assert shares.costs == [7.0, 7.0] and sorted(map(len, shares.rows)) == [2, 2]
    # 13 against 11: a row less for the one would be a row and a prompt more for the other.
    costs = [Cost(0, b"a", 2.0, 9.0), Cost(1, b"a", 2.0, 9.0), Cost(2, b"b", 2.0, 9.0)]
    assert deal(costs, 2).rows == [[0, 1], [2]]


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("seed", range(5))
def test_deal_ends_within_the_cheapest_row_of_the_fullest_rank(size: int, seed: int) -> None:
    source = random.Random(seed)
    costs = []
    for prompt in range(16):
        shared = source.uniform(0, 300)
        costs += [Cost(len(costs) + i, bytes([prompt]), source.lognormvariate(5, 1), shared) for i in range(8)]
    shares = deal(costs, size)
    assert sorted(row for rows in shares.rows for row in rows) == list(range(len(costs)))
    most = shares.costs.index(max(shares.costs))
    cheapest = min(costs[row].own + costs[row].shared for row in shares.rows[most])
    assert max(shares.costs) - min(shares.costs) <= cheapest
    assert shares.imbalance < 1.05
    for rows, cost in zip(shares.rows, shares.costs, strict=True):
        held = {costs[row].prompt: costs[row].shared for row in rows}
        assert cost == pytest.approx(sum(costs[row].own for row in rows) + sum(held.values()))


def test_deal_of_nothing_is_even() -> None:
    assert deal([], 3).rows == [[], [], []] and deal([], 3).imbalance == 1


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("resources", [{"max_tokens_per_microbatch": 12}, {"per_device_train_batch_size": 2}])
def test_every_rank_runs_as_many_micro_batches_and_all_rows_once(layout: str, resources: dict[str, int]) -> None:
    rows = batch([3, 4, 2, 5, 3], [6, 2, 9, 4, 1], [1.0] * 5)
    selection = select_tokens(FullBudget(), rows.lengths, generator=torch.Generator())
    shares = [[0, 2, 3], [1], [4]]
    plans = [
        plan_microbatches(
            rows.prompts, rows.completions, selection, ResourcesSpec(**resources), layout, shares, rank  # type: ignore[arg-type]
        )
        for rank in range(3)
    ]  # fmt: skip
    assert len({len(plan) for plan in plans}) == 1
    for share, plan in zip(shares, plans, strict=True):
        assert sorted(row for micro in plan for row in micro.rows.tolist()) == share
        assert all(micro.tokens.num_places >= 1 for micro in plan)  # one without rows still goes through the layers
