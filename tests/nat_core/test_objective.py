"""What the objective section refuses, and where it says so."""

from __future__ import annotations

import pytest

from nat_core.errors import SpecError
from nat_core.spec import ExperimentSpec, ObjectiveSpec, RunSpec, parse_experiment_spec, parse_run_spec


def refusal(document: dict[str, object]) -> tuple[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_run_spec(document)
    (fault,) = caught.value.faults
    return fault.pointer, fault.detail


@pytest.mark.parametrize("objective", [{"loss_type": "gspo"}, {"rollout_is": "sequence"}])
@pytest.mark.parametrize("budget", [{"selector": "urs"}, {"selector": "rpc"}, {"selector": "truncate"}, None])
def test_ratios_of_whole_completions_need_whole_completions(
    objective: dict[str, str], budget: dict[str, str] | None
) -> None:
    document: dict[str, object] = {"objective": objective} | ({"budget": budget} if budget else {})
    pointer, detail = refusal(document)
    assert (
        pointer == "/budget" and "needs every token of a completion" in detail and "use full or completions" in detail
    )
    for whole in ("full", "completions"):
        parse_run_spec({"objective": objective, "budget": {"selector": whole}})


def test_an_experiment_checks_every_budget_against_the_objective() -> None:
    base = {"objective": {"loss_type": "gspo"}}
    with pytest.raises(SpecError) as caught:
        parse_experiment_spec({"name": "a", "base": base, "budgets": [{"selector": "full"}, {"selector": "rpc"}]})
    assert [fault.pointer for fault in caught.value.faults] == ["/budgets"]
    found = parse_experiment_spec(
        {"name": "a", "base": base, "budgets": [{"selector": "full"}, {"selector": "completions"}]}
    )
    assert [run.objective.loss_type for run in found.expand()] == ["gspo", "gspo"]


def test_an_experiments_base_has_no_budget_of_its_own() -> None:
    written = parse_experiment_spec(
        {"name": "a", "base": {"budget": {"selector": "urs"}}, "budgets": [{"selector": "rpc"}]}
    )
    built = ExperimentSpec(name="a", base=RunSpec(), budgets=written.budgets)
    assert written.base.budget.selector == built.base.budget.selector == "full"
    assert [run.budget.selector for run in written.expand()] == ["rpc"]


def test_delta_must_be_above_the_upper_clip() -> None:
    pointer, detail = refusal({"objective": {"delta": 1.2, "epsilon_high": 0.28}})
    assert pointer == "/objective" and "1 + epsilon_high = 1.28" in detail
    assert "no clip" in refusal({"objective": {"delta": 9, "loss_type": "cispo"}})[1]
    assert parse_run_spec({"objective": {"delta": 1.3, "epsilon_high": 0.28}}).objective.delta == 1.3


def test_the_overlong_buffer_fits_into_a_completion() -> None:
    pointer, detail = refusal({"objective": {"overlong_buffer": 65}, "rollout": {"max_completion_length": 64}})
    assert pointer == "/objective" and "above rollout.max_completion_length 64" in detail


def test_only_law_optimal_has_a_floor() -> None:
    pointer, detail = refusal({"budget": {"selector": "rpc", "floor": 0.5}})
    assert pointer == "/budget" and "law optimal only" in detail
    assert parse_run_spec({"budget": {"selector": "rpc", "law": "optimal", "floor": 0.5}}).budget.label.endswith("0.5")


def test_the_highest_ratio_let_through() -> None:
    assert ObjectiveSpec().ratio_cap == 1.2
    assert ObjectiveSpec(epsilon_high=0.28).ratio_cap == 1.28
    assert ObjectiveSpec(loss_type="cispo").ratio_cap == 5.0
    assert ObjectiveSpec(loss_type="cispo", epsilon_high=3.0).ratio_cap == 3.0
