"""What a tally makes of its draws, by hand."""

from __future__ import annotations

import pytest
import torch

from bench.tally import Spent, Tally
from nat_core.spec import UrsBudget


def test_tally_reports_variance_cosine_and_cost_by_hand() -> None:
    tally = Tally(UrsBudget(fraction=0.5), torch.tensor([3.0, 4.0], dtype=torch.float64))
    tally.add(torch.tensor([6.0, 8.0]).double(), Spent(flops=100.0, trunk_tokens=10.0, kept_share=0.4))
    tally.add(torch.tensor([0.0, 5.0]).double(), Spent(flops=300.0, trunk_tokens=30.0, kept_share=0.6))
    row = tally.row(full_flops=500.0)
    assert row["relative_variance"] == pytest.approx((25 / 25 + 10 / 25) / 2)
    assert row["relative_variance_se"] == pytest.approx((2 * 0.3**2) ** 0.5 / 2**0.5)
    assert row["cosine"] == pytest.approx((1.0 + 0.8) / 2)
    assert row["error_of_mean"] == pytest.approx(2.5 / 5)  # the mean is (3, 6.5)
    assert row["noise_of_mean"] == pytest.approx(0.35**0.5)
    assert (row["draws"], row["kept_share"], row["flops_share"], row["trunk_tokens"]) == (2, 0.5, 0.4, 20.0)
    assert row["flops_cv"] == pytest.approx(20000**0.5 / 200)
    assert row["trunk_tokens_cv"] == pytest.approx(200**0.5 / 20)
