"""`natlab plan`: the expected cost of a step by budget, as a table and as JSON, and what won't fit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from client.cli import run
from client.plan import machine_memory_gib
from tests.e2e.support import REPOSITORY

EXPERIMENT = """
name: half
base: {rollout: {max_prompt_length: 64, max_completion_length: 200}}
budgets:
  - selector: rpc
    fraction: 0.5
  - selector: full
"""


@pytest.fixture
def experiment_file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT)
    return path


def test_plan_puts_full_first_and_each_budget_against_it(
    experiment_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", str(experiment_file), "--json", "--memory-gib", "64"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["assumed"] == {"prompt_tokens": 34, "completion_tokens": 76, "memory_gib": 64}  # the server's, too
    full, half = report["budgets"]
    assert (full["budget"], half["budget"]) == ("full", "rpc · linear · ½")
    assert full["tokens_selected"] == full["tokens_generated"] == pytest.approx(16 * 8 * 76, rel=0.01)
    assert half["tokens_selected"] == pytest.approx(full["tokens_selected"] / 2)
    assert full["flops_share"] == 1 and 0.45 < half["flops_share"] < 0.6
    assert full["fits"] and half["total_gib"] == pytest.approx(sum(half["memory_gib"].values()))


def test_plan_warns_of_what_will_not_fit(experiment_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--memory-gib", "0.1", "--prompt-tokens", "64", "--completion-tokens", "150"]
    assert (
        run(["plan", str(experiment_file), *options, "--set", "base.resources.max_tokens_per_microbatch=100000"]) == 0
    )
    printed = capsys.readouterr().out
    assert "full won't fit" in printed and "of 0.1" in printed
    assert "completions of 150 on average" in printed


def test_plan_shows_each_budgets_memory_by_parts(experiment_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(experiment_file), "--json"]) == 0
    expected = [list(row["memory_gib"].values()) for row in json.loads(capsys.readouterr().out)["budgets"]]
    assert run(["plan", str(experiment_file)]) == 0
    printed = capsys.readouterr().out
    rows = [line.split()[-len(expected[0]) :] for line in printed.partition("by what it holds")[2].splitlines()[2:4]]
    assert [[float(size) for size in row] for row in rows] == [pytest.approx(row, abs=0.006) for row in expected]
    assert "Seconds come with --measure" in printed


def test_plan_of_a_run_has_its_budget_beside_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("budget: {selector: urs, fraction: 0.25}\n")
    assert run(["plan", str(path), "--json"]) == 0
    assert [row["budget"] for row in json.loads(capsys.readouterr().out)["budgets"]] == ["full", "urs · ¼"]


def test_plan_says_where_a_model_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {path: owner/name}\n")
    assert run(["plan", str(path)]) == 2
    assert "sizes are not known on this machine" in capsys.readouterr().err


@pytest.mark.parametrize("example", sorted((REPOSITORY / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_can_be_planned_before_anything_is_downloaded(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert run(["plan", str(example), "--json"]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["budgets"][0]["budget"] == "full"


ON_FOUR = ["--set", "resources.gpus=4", "--memory-gib", "80"]


def test_a_plan_on_several_gpus_is_of_each_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {path: Qwen/Qwen3-1.7B}\nbudget: {selector: rpc, fraction: 0.5}\n")
    assert run(["plan", str(path), "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert run(["plan", str(path), "--json", *ON_FOUR]) == 0
    on_four = json.loads(capsys.readouterr().out)
    assert (alone["num_devices"], on_four["num_devices"]) == (1, 4)
    one, each = alone["budgets"][0], on_four["budgets"][0]
    assert each["tokens_selected"] == one["tokens_selected"] and each["flops"] == one["flops"]
    assert each["memory_gib"]["optimizer"] == pytest.approx(one["memory_gib"]["optimizer"] / 4)
    assert each["num_microbatches"] < one["num_microbatches"] and each["total_gib"] < one["total_gib"]
    assert run(["plan", str(path), *ON_FOUR]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Its memory on each of 4 devices by what it holds, GiB budget weights" in printed
    assert "Tokens and FLOPs are those of all 4 devices together" in printed


def test_a_model_that_no_device_could_sample_from_is_not_helped_by_smaller_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {path: Qwen/Qwen3-14B, dtype: bfloat16, gradient_checkpointing: true}\n")
    options = ["--set", "resources.gpus=64", "--memory-gib", "40"]
    assert run(["plan", str(path), *options]) == 0
    printed = capsys.readouterr().out
    assert "copy for" in printed and "55.0" in printed and "holds the whole model while it samples" in printed


def test_memory_is_the_gpus_or_the_machines() -> None:
    assert machine_memory_gib() > 0.5


@pytest.mark.slow
def test_a_measured_plan_has_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("budget: {selector: rpc, fraction: 0.25}\nresources: {device: cpu}\n")
    assert run(["plan", str(path), "--measure", "--json"]) == 0
    full, quarter = json.loads(capsys.readouterr().out)["budgets"]
    assert 0 < quarter["seconds"] < full["seconds"]
    assert run(["plan", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["budgets"][0]["seconds"] is None


@pytest.mark.slow
def test_four_bits_are_measured_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {lora: {r: 4, quantize: nf4}}\nresources: {device: cpu}\n")
    asked: list[list[str]] = []
    start = subprocess.run
    monkeypatch.setattr("client.plan.subprocess.run", lambda c, **o: (asked.append(c), start(c, **o))[1])
    assert run(["plan", str(path), "--measure", "--memory-gib", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["budgets"][0]["seconds"] > 0
    [command] = asked
    assert command[command.index("--lora-quantize") + 1] == "nf4"


def test_a_machine_that_cannot_be_measured_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("budget: {selector: full}\n")
    monkeypatch.setattr("client.plan.sys.executable", "/bin/false")
    assert run(["plan", str(path), "--measure"]) == 2
    assert "measuring this machine failed" in capsys.readouterr().err
