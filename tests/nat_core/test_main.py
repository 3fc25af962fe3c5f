"""`python -m nat_core` as its parents see it: exit status, signals, messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nat_core.events import StateEvent, parse_event
from tests.server.support import wait_until

SPEC = {
    "data": {"type": "demo_arithmetic", "min_operations": 1, "max_operations": 2},
    "rollout": {"num_prompts": 2, "num_generations": 4, "max_completion_length": 24},
    "evaluation": {"num_prompts": 2, "num_samples": 2, "greedy": False, "every": 0},
    "resources": {"num_threads": 1},
    "steps": 100_000,
}


def start(folder: Path, *arguments: str, **changes: object) -> subprocess.Popen[str]:
    spec = folder / "spec.json"
    spec.write_text(json.dumps(SPEC | changes))
    argv = [sys.executable, "-m", "nat_core", str(spec), "--output", str(folder / "run"), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def wait_for_first_step(folder: Path, process: subprocess.Popen[str]) -> None:
    path = folder / "run" / "events.jsonl"

    def stepped() -> bool:
        assert process.poll() is None, process.communicate()
        return path.exists() and '"step":1,' in path.read_text()

    wait_until(stepped, timeout_s=120)


def last_event(folder: Path) -> object:
    return parse_event((folder / "run" / "events.jsonl").read_text().splitlines()[-1])


@pytest.mark.slow
def test_sigterm_stops_after_the_step_with_a_checkpoint(tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_for_first_step(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 3
    event = last_event(tmp_path)
    assert isinstance(event, StateEvent) and event.outcome == "stopped"
    assert list((tmp_path / "run" / "checkpoints").glob("step-*/manifest.json"))


@pytest.mark.slow
def test_a_supervised_trainer_dies_when_its_pipe_closes(tmp_path: Path) -> None:
    process = start(tmp_path, "--supervised")
    wait_for_first_step(tmp_path, process)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == -signal.SIGKILL


def test_set_overrides_a_field_and_a_bad_one_is_a_sentence(tmp_path: Path) -> None:
    process = start(tmp_path, "--set", "budget={selector: rpc, fraction: 2}")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith("natlab: spec ") and "budget.fraction is 2" in errors and errors.count("\n") == 1


def test_a_broken_data_line_ends_before_torch_loads(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "q", "answer": "a"}\n{"quest\n')
    process = start(tmp_path, data={"type": "jsonl", "path": str(tmp_path / "rows.jsonl")})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and "rows.jsonl, line 2 is not valid JSON" in errors
    assert not (tmp_path / "run").exists()


def test_a_folder_with_checkpoints_is_gone_on_with_or_left_alone(tmp_path: Path) -> None:
    """A run from the start would have its own, of fewer steps, deleted in favour of those that are there."""
    there = tmp_path / "run" / "checkpoints" / "step-00000200"
    there.mkdir(parents=True)
    process = start(tmp_path, steps=1)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and "holds a run's checkpoints; add --resume" in errors
    assert there.is_dir() and not (tmp_path / "run" / "events.jsonl").exists()


@pytest.mark.slow
def test_a_custom_reward_runs_only_where_the_command_line_allows_it(tmp_path: Path) -> None:
    (tmp_path / "our_rewards.py").write_text(
        "def shorter(*, prompt, completion, answer):\n    return -len(completion)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    changes = {"steps": 1, "reward": {"type": "custom", "function": "our_rewards:shorter"}}
    for allowed, status in (([], 1), (["--allow-reward", "our_rewards"], 0)):
        folder = tmp_path / f"status-{status}"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", path)
            process = start(folder, *allowed, **changes)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == status, errors
        event = last_event(folder)
        assert isinstance(event, StateEvent) and event.reason == (None if status == 0 else "bad_spec")
    assert "NATLAB_ALLOWED_REWARDS allows none" in str(
        parse_event((tmp_path / "status-1" / "run" / "events.jsonl").read_text().splitlines()[-1])
    )
