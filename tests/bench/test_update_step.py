"""The update-step benchmark at toy sizes: same gradient for everyone, honest ratios, a row each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import update_step
from bench.contenders import Work, largest_share, natlab, trl, typical_seed
from bench.shapes import Lengths, policy_of, random_batch, read_lengths
from bench.turns import allocated_gib, peak_gib
from bench.update_step import budgets_of, take_turns
from bench.update_step_figure import figure
from nat_core.batch import CompletionBatch
from nat_core.model import Policy
from nat_core.spec import FullBudget, ResourcesSpec, RpcBudget
from tests.nat_core.builders import gradients, save_tiny_model

LENGTHS = Lengths("", prompt=4, group=2, lengths=[9, 3, 14, 6])
CPU = torch.device("cpu")


def setting() -> tuple[Policy, CompletionBatch]:
    return policy_of("toy", CPU), random_batch(LENGTHS, 64)


def test_trl_and_natlab_make_the_same_gradient(tmp_path: Path) -> None:
    policy, batch = setting()
    found = []
    for contender in (natlab(policy, batch, FullBudget(), ResourcesSpec()), trl(policy, batch, 2, tmp_path)):
        work = contender(torch.Generator())
        found.append((gradients(policy), work))
    (ours, our_work), (theirs, their_work) = found
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.norm())
    assert our_work.kept == their_work.kept == sum(LENGTHS.lengths)
    assert our_work.flops < their_work.flops  # no padding, no prompt twice
    assert (our_work.largest, their_work.largest) == (2 * 4 + sum(LENGTHS.lengths) - 4, 2 * (4 + 14))


def test_shares_are_medians_of_ratios_within_a_turn() -> None:
    ticks = iter([0.0, 9.0, 0.0, 9.0, 0.0, 2.0, 0.0, 1.0, 0.0, 10.0, 0.0, 4.0, 0.0, 4.0, 0.0, 2.0])
    contenders = {"full": lambda g: Work(100.0, 8, 5), "half": lambda g: Work(40.0, 4, 2)}
    full, half = take_turns(contenders, CPU, 3, clock=lambda: next(ticks))
    assert (full["seconds"], full["time_share"], full["time_saved_of_flops_saved"]) == (4, 1, None)
    assert (half["seconds"], half["time_share"]) == (2, 0.5)  # of 1/2, 4/10 and 2/4; the first turn does not count
    assert half["time_saved_of_flops_saved"] == pytest.approx(0.5 / 0.6)


def test_peak_memory_is_above_weights_and_gradients() -> None:
    policy, batch = setting()
    assert 0 <= peak_gib(natlab(policy, batch, FullBudget(), ResourcesSpec()), policy) < 1


def test_memory_of_tensors_follows_the_tokens_of_a_micro_batch() -> None:
    policy, batch = setting()
    half, whole = (
        allocated_gib(natlab(policy, batch, FullBudget(), ResourcesSpec(per_device_train_batch_size=rows)), policy)
        for rows in (2, 4)
    )
    gradients = sum(p.numel() * p.element_size() for p in policy.parameters) / 1024**3
    assert 0 < half + gradients < whole + gradients < 1


def test_memory_is_measured_on_a_selection_of_typical_size() -> None:
    policy, batch = setting()
    budget, resources = RpcBudget(fraction=0.5), ResourcesSpec(per_device_train_batch_size=2)
    full = natlab(policy, batch, FullBudget(), resources)(torch.Generator()).largest
    seed = typical_seed(policy, batch, budget, resources)
    typical = natlab(policy, batch, budget, resources)(torch.Generator().manual_seed(seed)).largest
    assert abs(typical / full - largest_share(policy, batch, budget, resources)) <= 0.5 / full


@pytest.mark.slow
@pytest.mark.timeout(900)  # each contender's memory of each kind takes a process
def test_a_report_has_a_row_for_each_contender_of_each_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    monkeypatch.setattr(update_step, "GROWTH", (1, 2))
    arguments = ["--model", "toy", "--selections", "2", "--against", "trl", "--memory", "--growth", "--device", "cpu"]
    picture = tmp_path / "figure.html"
    arguments += ["--predict", "--figure", str(picture), "--scratch", str(tmp_path)]
    update_step.main([*arguments, "--json", str(path)])
    report = json.loads(path.read_text())
    names = [budget.label for budget in budgets_of("rpc", [0.5, 0.25])]
    assert [row["name"] for row in report["arms"]["sequences"]] == [*names, "TRL"]
    assert [row["name"] for row in report["arms"]["tokens"]] == names
    assert all(
        row["seconds"] > 0 and row["peak_gib"] >= 0 and row["allocated_gib"] < 1
        for rows in report["arms"].values()
        for row in rows
    )
    half = report["arms"]["sequences"][1]
    assert 0.35 < half["flops_share"] < 0.6 and 0.35 < half["largest_share"] < 0.75
    assert [row["factor"] for row in report["growth"]] == [1, 2]
    assert all(row["peak_gib"] >= 0 for row in report["growth"])
    assert abs(half["off"]["flops"]) < 0.2 and half["predicted"]["seconds"] > 0
    assert "TRL" in picture.read_text()


@pytest.mark.slow
def test_a_models_directory_is_measured_as_a_shape_is(tmp_path: Path) -> None:
    folder, path = save_tiny_model(tmp_path / "model"), tmp_path / "report.json"
    arguments = ["--model", str(folder), "--selections", "1", "--arm", "sequences", "--budgets", "0.5", "--predict"]
    update_step.main([*arguments, "--device", "cpu", "--json", str(path)])
    full, half = json.loads(path.read_text())["arms"]["sequences"]
    assert abs(full["off"]["flops"]) < 0.05 and full["predicted"]["seconds"] > half["predicted"]["seconds"] > 0


def report_of(arm: str, **more: Any) -> dict[str, Any]:
    row = {"name": "full", "seconds": 2.0, "flops_share": 1.0, "peak_gib": 3.0}
    half = {"name": "half", "seconds": 1.1, "flops_share": 0.5, "peak_gib": 1.5}
    trl = {"name": "TRL", "seconds": 9.0, "flops_share": 3.0, "peak_gib": 9.0}
    return {"model": "toy", "hardware": {"cpu": "x"}, "command": arm, "arms": {arm: [row, half, trl]}} | more


def test_reports_of_one_machine_join_and_of_two_do_not() -> None:
    whole = update_step.joined([report_of("sequences"), report_of("tokens", growth=[1])])
    assert list(whole["arms"]) == ["sequences", "tokens"]
    assert (whole["growth"], whole["command"]) == ([1], "sequences; tokens")
    with pytest.raises(SystemExit, match="different models or machines"):
        update_step.joined([report_of("sequences"), report_of("tokens", hardware={"cpu": "y"})])


def test_the_figure_has_a_bar_for_each_row_and_a_mark_where_the_flops_point() -> None:
    drawn = figure(update_step.joined([report_of("sequences"), report_of("tokens")]))
    seconds, marks, memory = drawn["data"][:3]
    assert (seconds["x"], memory["x"]) == ([2.0, 1.1, 9.0], [3.0, 1.5, 9.0])
    assert seconds["text"][1] == " 1.1 s (55%)"  # the blank keeps it off the mark
    assert (marks["x"], marks["y"]) == ([2.0, 1.0], ["full", "half"])
    assert len(drawn["data"]) == 6


def test_an_unknown_arm_and_a_missing_list_are_refused() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_lengths("nowhere")
    with pytest.raises(SystemExit):
        update_step._parser().parse_args(["--arm", "hours"])
