"""A trainer that starts its own ranks: they end with it, and it with them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nat_core.checkpoint_folder import list_checkpoints
from nat_core.events import AnyEvent, MetricsEvent, StateEvent, parse_event
from tests.server.support import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # real trainings, in processes of their own
LONG_S = 200.0  # for what takes seconds on a machine that has nothing else to do
ROOT = Path(__file__).parents[2]
SEAM = ROOT / "tests" / "faults" / "seam"
SPEC = {
    "data": {"type": "demo_arithmetic", "min_operations": 1, "max_operations": 2},
    "rollout": {"num_prompts": 2, "num_generations": 4, "max_completion_length": 16},
    "evaluation": {"num_prompts": 2, "num_samples": 1, "every": 0, "greedy": False},
    "checkpoint": {"every": 1},
    "resources": {"num_threads": 1},
    "steps": 10_000,
}
# As `resources.gpus: 2` would start them, without GPUs.
LAUNCH = "import sys; from nat_core.launch import launch; sys.exit(launch(2, sys.argv[1:]))"


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts trainers in the test's folder, and sees that none is left."""
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    started = []

    def start(fault: str = "none::", command: tuple[str, ...] = ("-c", LAUNCH)) -> subprocess.Popen[bytes]:
        argv = [sys.executable, *command, str(tmp_path / "spec.json"), "--output", str(tmp_path), "--resume"]
        environment = os.environ | {
            "PYTHONPATH": f"{SEAM}{os.pathsep}{ROOT}",
            "FAULT": fault,
            "FAULT_MARK": str(tmp_path / "fault"),
            "CUDA_VISIBLE_DEVICES": "",
        }
        with (tmp_path / "errors").open("ab") as errors:
            started.append(subprocess.Popen(argv, env=environment, stderr=errors))
        return started[-1]

    yield start
    for trainer in started:
        trainer.kill()
        trainer.wait()


def events(folder: Path) -> list[AnyEvent]:
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [parse_event(line) for line in lines if line.endswith("\n")]


def steps(folder: Path) -> list[int]:
    return [event.step for event in events(folder) if isinstance(event, MetricsEvent)]


def test_ranks_that_lose_one_are_lost_and_a_later_start_goes_on_until_it_is_told_to_stop(
    tmp_path: Path, start: Start
) -> None:
    first = start("backward:3:kill")  # of one of the two, whichever gets there first
    wait_until(lambda: bool(steps(tmp_path)), timeout_s=LONG_S)
    ranks = psutil.Process(first.pid).children()
    assert len(ranks) == 2
    assert first.wait(LONG_S) == -signal.SIGKILL  # as whoever supervises sees it of a single trainer
    assert not any(isinstance(event, StateEvent) and event.phase == "ended" for event in events(tmp_path))
    assert not any(rank.is_running() for rank in ranks)
    before = steps(tmp_path)[-1]
    second = start()
    wait_until(lambda: steps(tmp_path)[-1] > before + 1, timeout_s=LONG_S)
    second.terminate()
    assert second.wait(LONG_S) == 3, (tmp_path / "errors").read_text()
    last = events(tmp_path)[-1]
    assert isinstance(last, StateEvent) and last.outcome == "stopped"
    assert list_checkpoints(tmp_path / "checkpoints")[-1].name == f"step-{last.step:08d}"
    assert steps(tmp_path) == list(range(1, last.step + 1))


def test_a_rank_that_is_out_of_memory_ends_the_run_and_says_so(tmp_path: Path, start: Start) -> None:
    trainer = start("backward:2:oom")
    assert trainer.wait(LONG_S) == 1
    last = events(tmp_path)[-1]
    assert isinstance(last, StateEvent) and last.outcome == "failed" and last.reason == "oom"
    assert "is out of memory with micro-batches of" in str(last.message)


def test_ranks_do_not_outlive_the_trainer_that_started_them(tmp_path: Path, start: Start) -> None:
    trainer = start()
    wait_until(lambda: bool(steps(tmp_path)), timeout_s=LONG_S)
    ranks = psutil.Process(trainer.pid).children()
    trainer.kill()
    assert trainer.wait(LONG_S) == -signal.SIGKILL
    gone, alive = psutil.wait_procs(ranks, timeout=LONG_S)
    assert len(gone) == 2 and not alive


def test_a_run_for_several_gpus_starts_as_many_ranks_which_say_when_there_are_none(
    tmp_path: Path, start: Start
) -> None:
    trainer = start(command=("-m", "nat_core", "--set", "resources.gpus=2"))
    assert trainer.wait(LONG_S) == 1
    last = events(tmp_path)[-1]
    assert isinstance(last, StateEvent) and last.outcome == "failed"
    assert last.message == "resources.gpus is 2, but torch sees no GPU; lower it"
