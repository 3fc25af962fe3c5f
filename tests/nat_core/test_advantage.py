"""Advantages by hand."""

from __future__ import annotations

import pytest
import torch

from nat_core.advantage import group_advantages, overlong_penalty
from nat_core.spec import ObjectiveSpec

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)


def test_group_scaling_divides_by_the_groups_own_spread() -> None:
    spread = (4 * 0.25 / 3) ** 0.5 + 1e-4
    expected = [0.5 / spread, -0.5 / spread, -0.5 / spread, 0.5 / spread]
    assert group_advantages(REWARDS, ObjectiveSpec(scale_rewards="group"))[0].tolist() == pytest.approx(expected)


def test_batch_scaling_divides_by_the_spread_of_all_rewards() -> None:
    spread = float(REWARDS.std()) + 1e-4
    assert group_advantages(REWARDS, ObjectiveSpec(scale_rewards="batch"))[0, 0] == pytest.approx(0.5 / spread)


def test_no_scaling_only_centres() -> None:
    assert group_advantages(REWARDS, ObjectiveSpec(scale_rewards="none"))[0].tolist() == [0.5, -0.5, -0.5, 0.5]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("value", [0.1, 1.0, 1 / 3])
def test_equal_rewards_have_advantage_exactly_zero(scale: str, value: float) -> None:
    rewards = torch.tensor([[value] * 7, [0.0, 1.0] * 3 + [0.0]])  # a mean of 7 floats need not be the float itself
    assert group_advantages(rewards, ObjectiveSpec(scale_rewards=scale))[0].tolist() == [0.0] * 7


def test_leave_one_out_compares_with_the_mean_of_the_others() -> None:
    objective = ObjectiveSpec(scale_rewards="none", advantage_baseline="leave_one_out")
    assert group_advantages(REWARDS, objective)[0].tolist() == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])
    scaled = group_advantages(REWARDS, ObjectiveSpec(advantage_baseline="leave_one_out"))
    assert scaled[0].tolist() == pytest.approx((group_advantages(REWARDS, ObjectiveSpec())[0] * 4 / 3).tolist())


def test_overlong_penalty_grows_in_a_straight_line_over_the_buffer() -> None:
    lengths = torch.tensor([[5, 60, 80], [90, 95, 100]])
    taken = overlong_penalty(lengths, 100, ObjectiveSpec(overlong_buffer=20, overlong_penalty=2.0))
    assert taken.tolist() == [[0, 0, 0], [1.0, 1.5, 2.0]]
    assert overlong_penalty(lengths, 100, ObjectiveSpec()).tolist() == [[0] * 3] * 2
