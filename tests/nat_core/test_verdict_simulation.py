"""The verdict in thousands of simulated experiments: how often it errs at the margin, how often it finds a winner."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator
from scipy.stats import nct, t

from nat_core.comparison import RunOutcome, Verdict, compare, non_inferiority_p, passing_cells
from nat_core.records import RunState
from nat_core.spec import ExperimentSpec, parse_experiment_spec

EXPERIMENTS = 5_000
MARGIN = 0.01
# (generator, seeds, cells, true difference) -> differences from the baseline, one row a cell, one column a seed
Arms = Callable[[Generator, int, int, float], np.ndarray]


def spec(seeds: int, *rivals: dict[str, object]) -> ExperimentSpec:
    budgets = [{"selector": "full"}, *rivals]
    return parse_experiment_spec({"name": "x", "budgets": budgets, "seeds": list(range(seeds)), "margin": MARGIN})


ONE = ({"selector": "rpc", "fraction": 0.5},)
FALLING = tuple({"selector": "rpc", "fraction": share} for share in (0.75, 0.5, 0.25))
FAMILIES = (*FALLING, {"selector": "urs", "fraction": 0.5}, {"selector": "completions", "fraction": 0.5})


def normal(spread: float = 0.01) -> Arms:
    """Differences that share the baseline's noise of each seed, as in an experiment."""

    def draw(rng: Generator, seeds: int, cells: int, true: float) -> np.ndarray:
        noise = rng.normal(0, spread / np.sqrt(2), (cells + 1, seeds))
        return true + noise[1:] - noise[:1]

    return draw


def counted(answers: int = 512) -> Arms:
    """Accuracies as shares of right answers."""

    def draw(rng: Generator, seeds: int, cells: int, true: float) -> np.ndarray:
        base = rng.binomial(answers, 0.84, (1, seeds))
        return (rng.binomial(answers, 0.84 + true, (cells, seeds)) - base) / answers

    return draw


def called(what: ExperimentSpec, differences: np.ndarray) -> set[int]:
    """The cells that the decision calls non-inferior."""
    p_values = {cell: non_inferiority_p(list(row), what.margin) for cell, row in enumerate(differences, start=1)}
    return passing_cells(what, p_values)


def rate_called(what: ExperimentSpec, arms: Arms, true: float, experiments: int = EXPERIMENTS) -> float:
    """The share of experiments in which any cell is called non-inferior."""
    rng = np.random.default_rng(20_261_123)
    seeds, cells = len(what.seeds), len(what.budgets) - 1
    return sum(bool(called(what, arms(rng, seeds, cells, true))) for _ in range(experiments)) / experiments


@pytest.mark.parametrize("seeds", [2, 3, 5, 8, 16])
@pytest.mark.parametrize("arms", [normal(), counted()], ids=["normal", "counted"])
def test_a_budget_at_the_margin_is_called_non_inferior_in_at_most_three_per_cent(seeds: int, arms: Arms) -> None:
    assert rate_called(spec(seeds, *ONE), arms, -MARGIN) <= 0.03


@pytest.mark.parametrize("rivals", [FALLING, FAMILIES], ids=["falling", "families"])
def test_many_budgets_at_the_margin_are_no_more_often_called(rivals: tuple[dict[str, object], ...]) -> None:
    assert rate_called(spec(5, *rivals), normal(), -MARGIN) <= 0.03


def test_the_verdict_is_that_decision() -> None:
    rng = np.random.default_rng(7)
    what = spec(5, *FAMILIES)
    seen = set()
    for _ in range(60):
        differences = normal(0.006)(rng, 5, len(FAMILIES), 0.0)
        rows = [np.zeros(5), *differences]
        outcomes = [
            RunOutcome(
                run_id=f"{cell}-{seed}",
                cell=cell,
                seed=seed,
                state=RunState.SUCCEEDED,
                step=1,
                accuracy=0.8 + row[seed],
            )
            for cell, row in enumerate(rows)
            for seed in range(5)
        ]
        told = {c.cell for c in compare(what, outcomes).cells if c.verdict is Verdict.NON_INFERIOR}
        assert told == called(what, differences)
        seen.add(len(told))
    assert len(seen) > 2  # from none to several


@pytest.mark.parametrize("seeds", [2, 3, 5, 8, 12])
@pytest.mark.parametrize("spread", [0.005, 0.01, 0.02])
def test_power_between_equal_arms_is_that_of_the_paired_t_test(seeds: int, spread: float) -> None:
    found = rate_called(spec(seeds, *ONE), normal(spread), 0.0, 2_000)
    exact = nct.sf(t.ppf(0.975, seeds - 1), seeds - 1, np.sqrt(seeds) * MARGIN / spread)
    assert abs(found - exact) < 0.035
