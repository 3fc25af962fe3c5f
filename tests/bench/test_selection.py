"""The selection benchmark at toy sizes: every row is there, and times are times."""

from __future__ import annotations

import pytest

from bench.budgets import budgets_at
from bench.selection import COUPLINGS, LAWS, Cuts, cut_times, median_ms, step_shares
from bench.shapes import Lengths


def test_median_ms_leaves_the_first_call_out() -> None:
    calls: list[int] = []
    assert median_ms(lambda: calls.append(1), repeats=3) >= 0
    assert len(calls) == 4


def test_cut_times_cover_every_law_and_coupling() -> None:
    rows = cut_times(Cuts(num_completions=8, longest=50), repeats=1)
    assert [(row["law"], row["coupling"]) for row in rows] == [(law, c) for law in LAWS for c in COUPLINGS]
    assert all(row["select_ms"] > 0 for row in rows)


def test_step_shares_are_selection_over_the_whole_step() -> None:
    rows = list(step_shares("toy", Lengths("", prompt=5, group=2, lengths=[3, 9, 30, 80]), repeats=1))
    assert [row["budget"] for row in rows] == ["full", *(budget.label for budget in budgets_at(0.5))]
    for row in rows:
        assert 0 < row["selection_ms"] == pytest.approx(row["share"] * row["step_ms"])
