"""Exact resume: a run that was cut off and went on is the run that was not, to the bit, whatever selects its tokens."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from safetensors.torch import load_file

from nat_core.checkpoint_folder import list_checkpoints
from nat_core.events import AnyEvent, EvaluationEvent, LogEvent, MetricsEvent, SampleEvent
from nat_core.spec import BudgetSpec, RunSpec
from nat_core.token_selection import SELECTORS
from nat_core.trainer import Trainer, TrainResult
from tests.nat_core.builders import run_spec, save_tiny_model
from tests.nat_core.test_trainer import train

STEPS, CUT = 3, 2


def budgets() -> list[dict[str, str]]:
    """Every selector with every choice that it leaves: from the registry and the spec, so that none is missed."""
    schema = TypeAdapter(BudgetSpec).json_schema()
    found = []
    for selector in SELECTORS:
        section = schema["$defs"][schema["discriminator"]["mapping"][selector].rsplit("/", 1)[1]]
        found.append({"selector": selector})
        for name, field in section["properties"].items():
            others = [choice for choice in field.get("enum", ()) if choice != field.get("default")]
            found += [{"selector": selector, name: choice} for choice in others]
    return found


MODELS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "LoRA": {"lora": {"r": 4}},
    "QLoRA": {"lora": {"r": 4, "quantize": "nf4"}},
}
BUDGETS = budgets()
CASES = [
    *(("all weights", budget) for budget in BUDGETS),
    *(("LoRA", {"selector": name}) for name in SELECTORS),
    ("QLoRA", {"selector": "rpc"}),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def spec_of(model: Path, kind: str, budget: dict[str, str], **sections: Any) -> RunSpec:
    return run_spec(
        **{
            "model": {"path": str(model), **MODELS[kind]},
            "budget": budget,
            "data": {"type": "demo_arithmetic", "min_operations": 1, "max_operations": 3},
            "reward": {"type": "length", "free": 1, "limit": 12},
            "rollout": {"num_prompts": 2, "num_generations": 4, "max_completion_length": 12},
            "evaluation": {"num_prompts": 2, "num_samples": 1, "every": 1, "greedy": False},
            "optim": {"learning_rate": 1e-2, "lr_scheduler_type": "cosine", "weight_decay": 0.01},
            "checkpoint": {"every": 1},
            "resources": {"num_threads": 1, "num_logged_samples": 64},
            "steps": STEPS,
        }
        | sections
    )


def reported(events: list[AnyEvent], after: int) -> list[object]:
    """Numbers, answers and chosen tokens of the steps after one, without the times."""
    found: list[object] = []
    for event in events:
        if event.step <= after:
            continue
        if isinstance(event, MetricsEvent):
            found.append({k: v for k, v in event.values.items() if not k.startswith(("timing", "perf"))})
        elif isinstance(event, SampleEvent):
            found.append((event.step, event.tokens, event.keep, event.inclusion_prob, event.logprobs, event.advantage))
        elif isinstance(event, EvaluationEvent):
            found.append((event.step, event.correct))
    return found


def assert_same_end(one: Path, other: Path) -> None:
    """Weights, optimizer and all else that the last checkpoints hold."""
    first, second = (list_checkpoints(folder / "checkpoints")[-1] for folder in (one, other))
    assert first.name == second.name == f"step-{STEPS:08d}"
    files = sorted(file.relative_to(first) for file in first.rglob("*.safetensors"))
    assert len(files) == 2  # the model's, or the adapters', and the optimizer's
    for file in files:
        held, expected = load_file(second / file), load_file(first / file)
        assert held.keys() == expected.keys() and all(held[name].equal(expected[name]) for name in held)
    assert json.loads((first / "state.json").read_text()) == json.loads((second / "state.json").read_text())


@pytest.mark.parametrize(("kind", "budget"), CASES, ids=[f"{k}-{'-'.join(b.values())}" for k, b in CASES])
def test_a_stop_and_a_resume_equal_straight_steps(
    model: Path, tmp_path: Path, kind: str, budget: dict[str, str]
) -> None:
    spec = spec_of(model, kind, budget)
    result, straight = train(spec, tmp_path / "straight")
    assert result == TrainResult("succeeded", STEPS), result.message
    trainer = Trainer(spec, tmp_path / "broken", should_stop=lambda: trainer.reporter.step == CUT)
    assert trainer.train() == TrainResult("stopped", CUT)
    _, resumed = train(spec, tmp_path / "broken", resume=True)
    expected = reported(straight, CUT)
    assert any(isinstance(entry, tuple) and len(entry) > 2 for entry in expected)  # tokens were chosen
    assert reported(resumed, CUT) == expected
    assert_same_end(tmp_path / "straight", tmp_path / "broken")


def test_a_resumed_run_learns_as_its_spec_says_now(model: Path, tmp_path: Path) -> None:
    """Lowering the rate before going on is what one does after a loss that was not finite."""
    spec = spec_of(model, "all weights", {"selector": "full"})
    trainer = Trainer(spec, tmp_path, should_stop=lambda: trainer.reporter.step == CUT)
    assert trainer.train() == TrainResult("stopped", CUT)
    changed = spec.optim.model_copy(update={"learning_rate": 1e-3, "weight_decay": 0.5, "adam_beta1": 0.8})
    events: list[AnyEvent] = []
    resumed = Trainer(spec.model_copy(update={"optim": changed}), tmp_path, sink=events.append, resume=True)
    assert resumed.train() == TrainResult("succeeded", STEPS)
    [values] = [event.values for event in events if isinstance(event, MetricsEvent)]
    assert values["learning_rate"] == pytest.approx(1e-3 * (1 + math.cos(math.pi * CUT / STEPS)) / 2)
    [group] = resumed.optimizer.param_groups
    assert (group["weight_decay"], group["betas"][0]) == (0.5, 0.8)


def train_until_killed(document: str, folder: Path, step: int) -> None:
    """Train, and be killed as soon as a step's numbers are on disk: after its update, before its checkpoint."""

    def die(event: AnyEvent) -> None:
        if isinstance(event, MetricsEvent) and event.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Trainer(RunSpec.model_validate_json(document), folder, sink=die).train()


@pytest.mark.parametrize("kind", ["all weights", "LoRA"])
def test_a_killed_trainer_and_a_resume_equal_straight_steps(model: Path, tmp_path: Path, kind: str) -> None:
    spec = spec_of(model, kind, {"selector": "rpc", "law": "optimal"}, objective={"beta": 0.05})
    _, straight = train(spec, tmp_path / "straight")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["nat_core.trainer"])
    child = server.Process(target=train_until_killed, args=(spec.model_dump_json(), tmp_path / "killed", CUT + 1))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert list_checkpoints(tmp_path / "killed" / "checkpoints")[-1].name == f"step-{CUT:08d}"
    result, resumed = train(spec, tmp_path / "killed", resume=True)
    assert result == TrainResult("succeeded", STEPS), result.message
    assert reported(resumed, CUT) == reported(straight, CUT)
    assert_same_end(tmp_path / "straight", tmp_path / "killed")


# --- damage ---------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "truncated file": lambda folder: os.truncate(folder / "model" / "model.safetensors", 1000),
    "flipped bit": lambda folder: flip(folder / "optimizer.safetensors"),
    "missing file": lambda folder: (folder / "state.json").unlink(),
    "missing manifest": lambda folder: (folder / "manifest.json").unlink(),
    "manifest of another kind": lambda folder: (folder / "manifest.json").write_text("[]"),
    "manifest that names too little": lambda folder: (folder / "manifest.json").write_text("{}"),
}


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Path]:
    """A run that kept its last three checkpoints."""
    spec = spec_of(model, "all weights", {"selector": "rpc"}, checkpoint={"every": 1, "keep": 3})
    folder = tmp_path_factory.mktemp("finished")
    train(spec, folder)
    return spec, folder


def copy_of(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def warnings_of(events: list[AnyEvent]) -> list[str]:
    return [event.message for event in events if isinstance(event, LogEvent) and event.level == "warning"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_steps_back_to_the_one_before_and_says_so(
    finished: tuple[RunSpec, Path], tmp_path: Path, damage: str
) -> None:
    spec, straight = finished
    folder = copy_of(straight, tmp_path / "run")
    DAMAGES[damage](list_checkpoints(folder / "checkpoints")[-1])
    result, events = train(spec, folder, resume=True)
    assert result == TrainResult("succeeded", STEPS)
    (warning,) = warnings_of(events)
    assert "step-00000003" in warning and "the run steps back to the one before" in warning
    assert any(isinstance(e, LogEvent) and "went on from the checkpoint of step 2" in e.message for e in events)
    assert len(list((folder / "checkpoints").glob("damaged-step-00000003-*"))) == 1
    assert_same_end(straight, folder)


def test_when_every_checkpoint_is_damaged_the_run_starts_anew_and_says_so(
    finished: tuple[RunSpec, Path], tmp_path: Path
) -> None:
    spec, straight = finished
    folder = copy_of(straight, tmp_path / "run")
    for path in list_checkpoints(folder / "checkpoints"):
        (path / "manifest.json").unlink()
    _, events = train(spec, folder, resume=True)
    assert len(warnings_of(events)) == 4 and "starts from its beginning" in warnings_of(events)[-1]
    assert_same_end(straight, folder)


def test_a_checkpoint_of_another_model_ends_the_run_and_stays(
    finished: tuple[RunSpec, Path], model: Path, tmp_path: Path
) -> None:
    _, straight = finished
    folder = copy_of(straight, tmp_path / "run")
    other = spec_of(model, "LoRA", {"selector": "rpc"})
    result, _ = train(other, folder, resume=True)
    assert (result.outcome, result.reason) == ("failed", "checkpoint")
    assert "does not fit the model that the spec describes" in str(result.message)
    assert list_checkpoints(folder / "checkpoints")[-1].name == "step-00000003"
