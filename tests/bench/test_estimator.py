"""The estimator benchmark on a small batch: what must hold whatever the draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.estimator import Tally, budgets_at, measure
from nat_core.spec import UrsBudget
from tests.nat_core.builders import run_spec


def test_a_tally_reports_variance_cosine_and_cost_by_hand() -> None:
    full = torch.tensor([3.0, 4.0], dtype=torch.float64)
    tally = Tally(UrsBudget(fraction=0.5), torch.zeros(2, dtype=torch.float64))
    tally.add(torch.tensor([6.0, 8.0]).double(), full, {"tokens/trunk": 10.0, "budget/fraction": 0.4})
    tally.add(torch.tensor([0.0, 5.0]).double(), full, {"tokens/trunk": 30.0, "budget/fraction": 0.6})
    row = tally.row(full)
    assert row["relative_variance"] == pytest.approx((25 / 25 + 10 / 25) / 2)
    assert row["cosine"] == pytest.approx((1.0 + 0.8) / 2)
    assert row["error_of_mean"] == pytest.approx(2.5 / 5)  # the mean is (3, 6.5)
    assert (row["kept_share"], row["trunk_tokens"]) == (0.5, 20.0)
    assert row["trunk_tokens_cv"] == pytest.approx(200**0.5 / 20)


def test_every_budget_is_measured_against_the_full_gradient(tmp_path: Path) -> None:
    spec = run_spec(
        data={"type": "demo_arithmetic", "min_operations": 3, "max_operations": 4},
        rollout={"num_prompts": 6, "num_generations": 4, "max_completion_length": 40},
        optim={"max_grad_norm": 1e9},
        resources={"num_threads": 1},
    )
    full, *rows = measure(spec, 0.25, 3, tmp_path)
    assert full["budget"] == "full" and [row["budget"] for row in rows] == [b.label for b in budgets_at(0.25)]
    cost = {row["budget"]: row["trunk_tokens"] for row in rows}
    assert cost["rpc · linear · ¼"] < 0.7 * full["trunk_tokens"] < cost["urs · ¼"] <= full["trunk_tokens"]
    assert all(row["relative_variance"] > 0 and 0 < row["kept_share"] < 1 for row in rows)
