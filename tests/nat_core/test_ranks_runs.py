"""Whole runs on two ranks: straight, stopped and resumed, and gone on with on another number of ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nat_core.checkpoint_folder import list_checkpoints, verify_checkpoint
from nat_core.events import AnyEvent, CheckpointEvent, EvaluationEvent, MetricsEvent, StateEvent, parse_event
from nat_core.ranks import ALONE
from nat_core.spec import RunSpec, parse_run_spec
from nat_core.trainer import Trainer, TrainResult
from tests.nat_core.runs_on_ranks import HALF, branch, loaded
from tests.nat_core.test_ranks import torchrun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # real trainings, in processes of their own
SPEC = {
    "data": {"type": "demo_arithmetic", "min_operations": 1, "max_operations": 3},
    "rollout": {"num_prompts": 4, "num_generations": 6, "max_completion_length": 32},
    "evaluation": {"num_prompts": 5, "num_samples": 2, "every": 0, "gradient_probe_every": 3},
    "objective": {"beta": 0.01},
    "budget": {"selector": "rpc", "law": "optimal"},
    "optim": {"learning_rate": 1e-4, "lr_scheduler_type": "cosine"},
    "checkpoint": {"every": HALF, "keep": 9},
    "resources": {"num_threads": 1, "max_tokens_per_microbatch": 2048 + 32},
    "steps": 4,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs: on one rank, on two, stopped and resumed, and from each to the other."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "spec.json").write_text(json.dumps(SPEC))
    train(folder / "one")
    torchrun("tests.nat_core.runs_on_ranks", str(folder), str(folder / "spec.json"))
    branch(folder / "two", folder / "two, then one")
    train(folder / "two, then one")
    return folder


def spec() -> RunSpec:
    return parse_run_spec(SPEC)


def train(folder: Path) -> None:
    assert Trainer(spec(), folder, resume=True).train() == TrainResult("succeeded", 4)


def events(run: Path) -> list[AnyEvent]:
    return [parse_event(line) for line in (run / "events.jsonl").read_text().splitlines()]


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """The last checkpoint's weights and optimizer."""
    path = list_checkpoints(run / "checkpoints")[-1]
    assert path.name == "step-00000004"
    files = [path / "model" / "model.safetensors", *path.glob("optimizer.safetensors"), *path.glob("optimizer/*")]
    return {f"{file.name}/{name}": value for file in files for name, value in load_file(file).items()}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors(run).items() if name.startswith("model.safetensors")}


def numbers(run: Path) -> list[dict[str, float | None]]:
    """Of the steps after the first half."""
    found = [e.values for e in events(run) if isinstance(e, MetricsEvent) and e.step > HALF]
    return [{k: v for k, v in values.items() if not k.startswith(("timing", "perf"))} for values in found]


def test_two_ranks_stopped_and_resumed_equal_two_straight_to_the_bit(runs: Path) -> None:
    straight, stopped = tensors(runs / "two"), tensors(runs / "stopped")
    assert len({name.split("/")[0] for name in straight}) == 4  # the model, step counts, and a file of each rank
    assert straight.keys() == stopped.keys()
    assert all(value.equal(stopped[name]) for name, value in straight.items())
    assert numbers(runs / "two") == numbers(runs / "stopped")
    ends = [e.outcome for e in events(runs / "stopped") if isinstance(e, StateEvent) and e.phase == "ended"]
    assert ends == ["stopped", "stopped", "succeeded"]


@pytest.mark.parametrize("other", ["two", "stopped", "one, then two", "two, then one"])
def test_on_any_number_of_ranks_it_is_the_same_run_up_to_rounding(runs: Path, other: str) -> None:
    one, found = weights(runs / "one"), weights(runs / other)
    start = load_file(list_checkpoints(runs / "one" / "checkpoints")[0] / "model" / "model.safetensors")
    moved = max(float((value - start[name.split("/")[1]]).abs().max()) for name, value in one.items())
    assert max(float((value - found[name]).abs().max()) for name, value in one.items()) < 0.02 * moved
    of_the_layout = {"tokens/trunk", "tokens/padded", "flops/update"}
    for expected, values in zip(numbers(runs / "one"), numbers(runs / other), strict=True):
        assert expected.keys() == values.keys()
        for name in expected.keys() - of_the_layout:
            assert values[name] == pytest.approx(expected[name], rel=2e-3, abs=2e-5), name


@pytest.mark.parametrize("run", ["one", "two"])
def test_any_number_of_ranks_loads_exactly_what_another_wrote(runs: Path, run: str, tmp_path: Path) -> None:
    """What one process wrote, two have loaded; what two wrote, one loads here."""
    if run == "one":
        found, expected = torch.load(runs / "loaded.pt"), loaded(spec(), branched(runs / "one", tmp_path), ALONE)
    else:
        found, path = loaded(spec(), branched(runs / "two", tmp_path), ALONE), runs / "two" / "checkpoints"
        expected = load_file(list_checkpoints(path)[0] / "model" / "model.safetensors")
        parts = [load_file(file) for file in sorted(list_checkpoints(path)[0].glob("optimizer/*"))]
        expected |= {name: torch.cat([part[name] for part in parts if name in part]) for name in parts[0] | parts[1]}
        expected |= {name: torch.tensor(2.0) for name in found if name.endswith(".step")}
    assert found.keys() == expected.keys() and len(found) > 50
    assert all(value.equal(expected[name]) for name, value in found.items())


def branched(run: Path, folder: Path) -> Path:
    branch(run, folder)
    return folder


def test_ranks_write_one_whole_checkpoint_without_pickle(runs: Path) -> None:
    (saved,) = [e for e in events(runs / "two") if isinstance(e, CheckpointEvent) and e.step == 4]
    path = runs / "two" / saved.path
    verify_checkpoint(path)
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert {Path(name).suffix for name in files} == {".safetensors", ".json"}
    manifest = json.loads((path / "manifest.json").read_text())
    assert files - manifest.keys() == {"manifest.json"}
    sizes = [file.stat().st_size for file in path.glob("optimizer/*")]
    assert len(sizes) == 2 and max(sizes) < 1.1 * min(sizes)  # a half each


def test_ranks_share_evaluations_and_report_once(runs: Path) -> None:
    def evaluations(run: str) -> list[tuple[int, list[int], float | None]]:
        found = [e for e in events(runs / run) if isinstance(e, EvaluationEvent)]
        return [(event.step, event.correct, event.accuracy_greedy) for event in found]

    assert evaluations("two") == evaluations("one") and len(evaluations("two")) == 2
    assert [event.seq for event in events(runs / "two")] == list(range(1, len(events(runs / "two")) + 1))


def test_the_failure_of_another_rank_is_the_runs(runs: Path) -> None:
    last = events(runs / "failed")[-1]
    assert isinstance(last, StateEvent) and last.outcome == "failed" and last.reason == "reward"
    assert "ZeroDivisionError" in str(last.message)
