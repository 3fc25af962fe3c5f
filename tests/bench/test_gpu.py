"""The GPU benchmark on a CPU at toy size, with nothing installed but what it says it needs."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import gpu
from bench.contenders import natlab
from bench.gpu_report import against_targets, summary
from bench.prediction import expected
from bench.shapes import SHAPES, Lengths, policy_of, random_batch, read_lengths
from bench.turns import peaks
from nat_core.cost import ModelShape
from nat_core.errors import StepMemoryError
from nat_core.spec import FullBudget, ResourcesSpec

ROOT = Path(__file__).resolve().parents[2]
ABSENT = "psutil,rich,plotly,trl,datasets,peft,accelerate,httpx,typer,fastapi,sqlmodel,celery,redis,pytest"
RUN = """
import importlib.machinery, runpy, sys

find, absent = importlib.machinery.PathFinder.find_spec, sys.argv[1].split(",")

def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] in absent else find(name, path, target)

importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
sys.argv = ["bench.gpu", *sys.argv[2:]]
runpy.run_module("bench.gpu", run_name="__main__")
"""
OFF, ON, GROWTH, TOKENS = gpu.CASES
TOY = ["--device", "cpu", "--model", "toy", "--lengths", "dry-8"]


@pytest.mark.slow
def test_it_runs_with_torch_transformers_and_pydantic_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, ABSENT, *TOY, "--selections", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    report = json.loads(path.read_text())
    assert list(report["cases"]) == [OFF, ON, GROWTH, TOKENS]
    assert "rows packed without padding" in report["micro-batches"] and "packed without padding" in done.stdout
    for name in (OFF, ON, TOKENS):
        full, half, quarter = report["cases"][name]["rows"]
        assert [row["name"] for row in (full, half, quarter)] == ["full", "rpc · linear · ½", "rpc · linear · ¼"]
        assert full["flops_share"] == full["activations_share"] == 1 and full["turns"] == 2
        assert 0.3 < half["flops_share"] < 0.7 and 0.1 < quarter["flops_share"] < half["flops_share"]
        assert all(row["seconds"] > 0 for row in (full, half, quarter))
        assert abs(full["off"]["flops"]) < 0.15 and "seconds" in full["off"]
        assert report["targets"][name]["time_saved"] == 1 - half["time_share"]
    assert [row["completions"] for row in report["cases"][GROWTH]["rows"]] == [8, 16, 32, 64]
    assert all(not case["lost"] and case["lengths_held_to"] is None for case in report["cases"].values())
    assert set(report["rates"]) == {"checkpointing off", "checkpointing on"}
    assert f"{ON}: time saved" in done.stdout and "(target 48%)" in done.stdout


def bench_of(tmp_path: Path, *arguments: str) -> gpu.Bench:
    options = gpu._parser().parse_args([*TOY, "--selections", "2", "--out", str(tmp_path), *arguments])
    assert isinstance(options, argparse.Namespace)
    return gpu.Bench(options)


def test_a_case_that_does_not_fit_is_done_with_shorter_completions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, tried = bench_of(tmp_path), []
    monkeypatch.setattr(gpu, "_SHORTER", (None, 48, 32))

    def compare(case: gpu.Case, lengths: Lengths, until: float) -> list[dict[str, Any]]:
        tried.append(max(lengths.lengths))
        if tried[-1] > 32:
            raise StepMemoryError("out of memory with micro-batches of 8,448 tokens and again with 8,448")
        return [{"name": "full"}]

    monkeypatch.setattr(bench, "compare", compare)
    found = bench.run(OFF, 0.0)
    assert tried == [64, 48, 32]
    assert (found["lengths_held_to"], found["rows"]) == (32, [{"name": "full"}])
    assert len(found["lost"]) == 2 and "StepMemoryError: out of memory with micro-batches" in found["lost"][0]


def test_a_case_that_is_lost_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compare = gpu.Bench.compare

    def broken(self: gpu.Bench, case: gpu.Case, lengths: Lengths, until: float) -> list[dict[str, Any]]:
        if not case.checkpointing:
            raise RuntimeError("no kernel image is available")
        return compare(self, case, lengths, until)

    monkeypatch.setattr(gpu.Bench, "compare", broken)
    monkeypatch.setattr(gpu, "_add_predictions", lambda bench, report: None)
    with pytest.raises(SystemExit, match="a case was lost"):
        gpu.main([*TOY, "--selections", "2", "--out", str(tmp_path)])
    (path,) = tmp_path.iterdir()
    cases = json.loads(path.read_text())["cases"]
    assert cases[OFF]["lost"] == ["RuntimeError: no kernel image is available"] and cases[OFF]["rows"] == []
    assert [len(cases[name]["rows"]) for name in (ON, GROWTH, TOKENS)] == [3, 4, 3]
    assert "lost: checkpointing off" in capsys.readouterr().out


def test_what_was_measured_is_on_disk_before_the_next_case_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def run(self: gpu.Bench, name: str, until: float) -> dict[str, Any]:
        if done:
            (path,) = tmp_path.iterdir()
            assert list(json.loads(path.read_text())["cases"]) == done
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(name)
        return {"lengths_held_to": None, "rows": [], "lost": []}

    monkeypatch.setattr(gpu.Bench, "run", run)
    with pytest.raises(KeyboardInterrupt):
        gpu.main([*TOY, "--out", str(tmp_path)])
    assert done == [OFF, ON]


def test_turns_end_when_another_would_be_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, now = bench_of(tmp_path), [100.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    enough = bench.enough(until=130.0)
    found = []
    for seconds in (8.0, 8.0, 8.0, 8.0):
        now[0] += seconds
        found.append(enough())
    assert found == [False, False, True, True]  # after 24 of 30 seconds another 8 are too many
    late = bench.enough(until=0.0)
    assert [late(), late()] == [False, True]  # two turns there are in any case


@pytest.mark.parametrize("name", [OFF, ON, TOKENS])
def test_the_cases_fit_an_h200_by_the_cost_model(name: str) -> None:
    """Weights and gradients in bfloat16, and what `full` takes beside them: below nine tenths of 139 GiB."""
    lengths, case = read_lengths("long-16"), gpu.CASES[name]
    resources = case.resources(lengths.prompt + max(lengths.lengths))
    beside = expected(FullBudget(), resources, lengths, "qwen3-8b", gpu.model_spec(case.checkpointing), wide=2)
    weights = 2 * ModelShape.of_config(SHAPES["qwen3-8b"].to_dict()).parameters / 1024**3
    assert 15 < weights < 16
    assert 15 < beside["activations_gib"] < 0.9 * 139 - 2 * weights


class Allocator:
    """Stands in for a GPU's: a step of two micro-batches, as it hands memory out."""

    def __init__(self) -> None:
        self.now = self.most = 100

    def take(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)

    def level(self) -> int:
        return self.now

    def peak(self) -> int:
        found, self.most = self.most, self.now
        return found


def test_gradients_do_not_hide_activations() -> None:
    """Two weights of 40 bytes. In the first micro-batch activations go as gradients come; the second finds those."""
    policy = policy_of("toy", torch.device("cpu"))
    first, second = (torch.nn.Parameter(torch.zeros(10)) for _ in range(2))
    policy.model.parameters = lambda: iter([first, second])  # type: ignore[method-assign, assignment]
    memory = Allocator()

    def gradient(_: torch.Generator) -> Any:
        for activations in (70, 50):
            memory.take(activations)
            for weight in (second, first):
                memory.take(40 if weight.grad is None else 0)
                (weight * 1.0).sum().backward()
                memory.take(-activations // 2)

    found = peaks(gradient, policy, memory=memory)
    gib = 1024**3
    # A gradient on its way counts until it stands: 70 + 40 beside the weights. In the end 50 beside both gradients.
    assert (found.activations * gib, found.total * gib) == (70 + 40, 100 + 2 * 40 + 50)


def test_memory_is_measured_from_a_step_that_begins_without_gradients() -> None:
    policy = policy_of("toy", torch.device("cpu"))
    batch = random_batch(Lengths("", 4, 2, [9, 3, 14, 6]), 64)
    contender = natlab(policy, batch, FullBudget(), ResourcesSpec())
    contender(torch.Generator())
    found: list[bool] = []

    def gradient(generator: torch.Generator) -> Any:
        found.append(all(parameter.grad is None for parameter in policy.parameters))
        return contender(generator)

    assert peaks(gradient, policy, memory=Allocator()).total * 1024**3 == 100
    assert found == [True] and policy.parameters[0].grad is not None


def test_targets_are_read_off_the_rows_of_full_and_half() -> None:
    full = {"name": "full", "time_share": 1.0, "flops_share": 1.0, "activations_share": 1.0, "total_share": 1.0}
    half = {"name": "half", "time_share": 0.5, "flops_share": 0.51, "activations_share": 0.6, "total_share": 0.8}
    rows = [full | {"model_flops_utilisation": 0.47}, half]
    found = against_targets(
        {"a": {"rows": rows}, "lost": {"rows": []}, "growth": {"rows": [{"time_share": 1.0}, {"time_share": 1.0}]}}
    )
    assert list(found) == ["a"] and found["a"]["activations_saved"] == pytest.approx(0.4)
    words = summary(found)
    assert "time saved 50% (target 48%)" in words and "model flops utilisation 47% (target 45%)" in words
