"""Verdicts and savings on numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from nat_core.comparison import (
    RunOutcome,
    Verdict,
    compare,
    mean_interval,
    passing_cells,
    seeds_to_settle,
    wilson_interval,
)
from nat_core.records import RunState
from nat_core.spec import ExperimentSpec, parse_experiment_spec

LABELS = ["full", "rpc · linear · ½", "urs · ½", "truncate · ½"]


def spec(seeds: int, *budgets: dict[str, object]) -> ExperimentSpec:
    chosen = budgets or (
        {"selector": "full"},
        {"selector": "rpc", "fraction": 0.5},
        {"selector": "urs", "fraction": 0.5},
        {"selector": "truncate", "fraction": 0.5},
    )
    return parse_experiment_spec({"name": "x", "budgets": list(chosen), "seeds": list(range(seeds))})


def run(cell: int, seed: int, accuracy: float | None, **fields: object) -> RunOutcome:
    defaults: dict[str, object] = {
        "run_id": f"run-{cell}-{seed}", "state": RunState.SUCCEEDED, "step": 10, "num_answers": 512,
        "tokens_generated": 1000.0, "tokens_selected": 1000.0 if cell == 0 else 500.0, "tokens_trunk": 1500.0,
        "forward_backward_s": 40.0 if cell == 0 else 24.0, "step_s": 100.0,
        "peak_memory_gib": 2.0 if cell == 0 else 1.5,
    }  # fmt: skip
    return RunOutcome(cell=cell, seed=seed, accuracy=accuracy, **(defaults | fields))  # type: ignore[arg-type]


def five_seeds(*shifts: float) -> list[RunOutcome]:
    base = [0.80, 0.82, 0.84, 0.81, 0.83]
    noise = [0.001, -0.001, 0.0, 0.002, -0.002]
    return [
        run(cell, seed, base[seed] + (shift + noise[(seed + cell) % 5] if cell else 0.0))
        for cell, shift in enumerate(shifts)
        for seed in range(5)
    ]


def test_mean_interval_is_students() -> None:
    found = mean_interval([1.0, 2.0, 3.0])
    half = 4.302653 * 1 / math.sqrt(3)  # t quantile 0.975 at 2 degrees of freedom
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half), abs=1e-5)
    assert mean_interval([1.0]).low is None


def test_wilson_interval_matches_the_textbook() -> None:
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_verdicts_of_five_seeds() -> None:
    found = compare(spec(5), five_seeds(0, 0.0, -0.05, 0.0))
    assert [cell.verdict for cell in found.cells] == [
        Verdict.BASELINE, Verdict.NON_INFERIOR, Verdict.INFERIOR, Verdict.NON_INFERIOR,
    ]  # fmt: skip
    assert found.best_cell == 1 and found.tone == "good"
    assert found.headline == "50% of the tokens that full trains on are enough here."
    assert found.detail.endswith(
        "It trained on 50.0% of generated tokens: 50% fewer tokens, 40% less forward+backward time, "
        "25% less peak memory than the baseline."
    )


def test_a_budget_that_passes_with_more_tokens_than_the_baseline_is_no_answer() -> None:
    budgets = [{"selector": "rpc", "fraction": 0.5}, {"selector": "full"}]
    runs = [
        outcome.model_copy(update={"tokens_selected": 500.0 if outcome.cell == 0 else 1000.0})
        for outcome in five_seeds(0, 0.0)
    ]
    found = compare(spec(5, *budgets), runs)
    assert found.cells[1].verdict is Verdict.NON_INFERIOR
    assert found.best_cell is None and found.headline == "No smaller budget is enough here."
    assert "full: Within 1 point" in found.detail


def test_savings_are_shares_of_the_same_seeds_baseline() -> None:
    found = compare(spec(5), five_seeds(0, 0.0, 0.0, 0.0)).cells[1]
    assert found.savings["tokens_selected"].mean == pytest.approx(0.5)
    assert found.savings["forward_backward_s"].mean == pytest.approx(0.4)
    assert found.savings["peak_memory_gib"].mean == pytest.approx(0.25)
    assert found.savings["step_s"].mean == 0
    assert found.forward_backward_s is not None and found.forward_backward_s.mean == pytest.approx(2.4)


def test_a_biased_budget_is_never_the_answer() -> None:
    found = compare(spec(5), five_seeds(0, -0.05, -0.05, 0.0))
    assert found.cells[3].verdict is Verdict.NON_INFERIOR and found.best_cell is None
    assert found.tone == "bad" and any("biased" in warning for warning in found.warnings)


def test_a_noisy_cell_is_inconclusive_and_says_how_many_seeds_would_settle_it() -> None:
    outcomes = five_seeds(0)
    outcomes += [run(1, seed, 0.82 + gap) for seed, gap in enumerate([0.03, -0.04, 0.02, -0.03, 0.02])]
    cell = compare(spec(5), outcomes).cells[1]
    assert cell.verdict is Verdict.INCONCLUSIVE and "seeds would settle it" in cell.verdict_text


def test_seeds_to_settle_is_the_first_count_whose_interval_clears_the_margin() -> None:
    differences = [0.02, -0.02, 0.02, -0.02]
    needed = seeds_to_settle(differences, 0.01)
    spread = math.sqrt(4 * 0.02**2 / 3)
    from scipy.stats import t

    assert needed is not None
    assert t.ppf(0.975, needed - 1) * spread / math.sqrt(needed) < 0.01
    assert t.ppf(0.975, needed - 2) * spread / math.sqrt(needed - 1) >= 0.01


def test_one_seed_makes_no_claim() -> None:
    found = compare(spec(1), [run(0, 0, 0.8), run(1, 0, 0.9), run(2, 0, 0.7), run(3, 0, 0.5)])
    assert [cell.verdict for cell in found.cells[1:]] == [Verdict.NO_CLAIM] * 3
    assert found.best_cell is None and found.tone == "warn" and "no claim" in found.headline
    accuracy = found.cells[0].accuracy
    assert accuracy is not None and (accuracy.low, accuracy.high) == pytest.approx(wilson_interval(0.8, 512))


def test_pairs_need_the_same_seed_finished_on_both_sides() -> None:
    outcomes = [run(0, 0, 0.8), run(0, 1, 0.8), run(1, 1, 0.7), run(1, 2, 0.9), run(1, 0, None, state=RunState.RUNNING)]
    cell = compare(spec(3), outcomes).cells[1]
    assert cell.difference is not None and cell.difference.num_seeds == 1
    assert cell.difference.mean == pytest.approx(-0.1)


def test_nothing_finished_is_pending() -> None:
    found = compare(spec(1), [run(cell, 0, None, state=RunState.QUEUED, step=0) for cell in range(4)])
    assert found.headline == "No answer yet." and {cell.verdict for cell in found.cells[1:]} == {Verdict.PENDING}


def test_falling_fractions_stop_at_the_first_failure() -> None:
    experiment = spec(2, {"selector": "full"}, *[{"selector": "rpc", "fraction": f} for f in (0.25, 0.75, 0.5)])
    assert passing_cells(experiment, {1: 0.001, 2: 0.001, 3: 0.2}) == {2}
    assert passing_cells(experiment, {1: 0.02, 2: 0.001, 3: 0.02}) == {1, 2, 3}


def test_two_selectors_share_the_level_as_holm_does() -> None:
    experiment = spec(2, {"selector": "full"}, {"selector": "rpc"}, {"selector": "urs"})
    assert passing_cells(experiment, {1: 0.012, 2: 0.024}) == {1, 2}  # 0.012 <= 0.0125, then 0.024 <= 0.025
    assert passing_cells(experiment, {1: 0.013, 2: 0.024}) == set()


def test_a_family_cannot_spend_its_share_and_hand_it_on() -> None:
    experiment = spec(
        2, {"selector": "full"}, {"selector": "rpc", "fraction": 0.5}, {"selector": "rpc", "fraction": 0.25},
        {"selector": "urs"},
    )  # fmt: skip
    assert passing_cells(experiment, {1: 0.001, 2: 0.9, 3: 0.02}) == {1}


def test_a_smaller_budget_waits_for_the_larger_one() -> None:
    """p = 1 is what a cell without enough pairs has."""
    experiment = spec(
        2, {"selector": "full"}, {"selector": "rpc", "fraction": 0.75}, {"selector": "rpc", "fraction": 0.5}
    )
    assert passing_cells(experiment, {1: 1.0, 2: 0.001}) == set()


def test_exactly_equal_accuracies_prove_nothing() -> None:
    """Nothing learnt anywhere, not a token trained on: no claim, and no crash over savings of nothing."""
    outcomes = [run(cell, seed, 0.0, tokens_selected=0.0) for cell in range(4) for seed in range(3)]
    found = compare(spec(3), outcomes)
    assert found.best_cell is None and found.cells[1].verdict is Verdict.INCONCLUSIVE
    assert "tokens_selected" not in found.cells[1].savings


@pytest.mark.parametrize("answers", [(0.9, 0.7), (359 / 512, 349 / 512)])
@pytest.mark.parametrize("lost", [0.0, 0.3])
def test_differences_that_agree_by_chance_claim_nothing(answers: tuple[float, float], lost: float) -> None:
    """Equal but for rounding: an interval of no width would pass for certainty, in favour or against."""
    accuracies = dict(enumerate(answers))
    outcomes = [run(0, seed, accuracy) for seed, accuracy in accuracies.items()]
    outcomes += [run(1, seed, accuracy - lost) for seed, accuracy in accuracies.items()]
    cell = compare(spec(2), outcomes).cells[1]
    assert cell.verdict is Verdict.INCONCLUSIVE
    assert "2 paired seeds differ by the same" in cell.verdict_text and "run more seeds" in cell.verdict_text


def test_tokens_saved_are_counted_not_shares() -> None:
    """Completions that grew longer eat up what a smaller share saves."""
    outcomes = [run(0, 0, 0.8), run(1, 0, 0.8, tokens_generated=2000.0, tokens_selected=1000.0)]
    cell = compare(spec(1), outcomes).cells[1]
    assert cell.savings["tokens_selected"].mean == 0 and cell.fraction is not None and cell.fraction.mean == 0.5


def test_different_hardware_and_neighbours_are_warned_of() -> None:
    outcomes = [
        run(0, 0, 0.8, hardware={"device": "cpu", "cpu": "A", "neighbours": 1}),
        run(1, 0, 0.8, hardware={"device": "cpu", "cpu": "B"}),
    ]
    warnings = " ".join(compare(spec(1), outcomes).warnings)
    assert "different hardware" in warnings and "shared their machine" in warnings


def test_a_run_still_going_does_not_blur_the_finished_ones() -> None:
    outcomes = [run(0, 0, 0.8), run(0, 1, 0.5, state=RunState.RUNNING, step=1, forward_backward_s=9.0)]
    cell = compare(spec(2), outcomes).cells[0]
    assert cell.accuracy is not None and (cell.accuracy.mean, cell.accuracy.num_seeds) == (0.8, 1)
    assert cell.forward_backward_s is not None and cell.forward_backward_s.mean == 4.0
    assert (cell.num_runs, cell.num_finished) == (2, 1)


def test_before_any_run_has_finished_the_estimates_are_of_what_is_there() -> None:
    cell = compare(spec(1), [run(0, 0, 0.6, state=RunState.RUNNING)]).cells[0]
    assert cell.accuracy is not None and cell.accuracy.mean == 0.6
