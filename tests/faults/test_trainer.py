"""A trainer that dies by kill -9, wherever it is: the run ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.faults.stack import HANG_S, STEPS, Stack, assert_as_if_nothing_had_happened
from tests.server.support import wait_until

pytestmark = pytest.mark.slow

DEATHS = {
    "in rollout": ("rollout:4:kill", 2),
    "in backward": ("backward:5:kill", 4),
    "in a checkpoint's files": ("fsync:partial-00000004/optimizer:kill", 2),
    "before a checkpoint's rename": ("fsync:partial-00000004/manifest:kill", 2),
    "before any checkpoint": ("backward:1:kill", 0),
}


@pytest.mark.parametrize("place", DEATHS)
def test_trainer_killed(stack: Stack, undisturbed: Path, place: str) -> None:
    fault, resumed_step = DEATHS[place]
    run_id = stack.launch()
    stack.start_worker(FAULT=fault)
    run = stack.wait_for(run_id, "succeeded")
    assert stack.mark.exists()
    assert (run["attempt"], run["restarts"], run["resumed_step"]) == (2, 1, resumed_step)
    first, second = run["attempts"]
    assert first["reason"] == "killed" and "SIGKILL" in first["message"] and second["reason"] is None
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def test_trainer_killed_while_a_checkpoint_of_its_step_is_replaced(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(name="worker-1", FAULT=f"rollout:{STEPS + 2}:stop")  # in the evaluation after the last step
    stack.wait_for_fault()
    stack.act(run_id, "pause")
    stack.go_on(once_asked_to_end=True)
    stack.wait_for(run_id, "paused")  # with a checkpoint that is still to be evaluated, and then written anew
    stack.signal("worker-1", signal.SIGKILL)
    killed = stack.home / "killed"
    fault = {"FAULT": f"rename:.partial-0000000{STEPS}:kill", "FAULT_MARK": str(killed)}
    stack.start_worker(name="worker-2", **fault)
    stack.act(run_id, "resume")
    run = stack.wait_for(run_id, "succeeded")
    assert killed.exists() and (run["attempt"], run["restarts"], run["resumed_step"]) == (3, 1, STEPS)
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def test_trainer_hangs(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="backward:5:stop", NATLAB_HANG_S=HANG_S)
    run = stack.wait_for(run_id, "succeeded", 180)
    assert (run["attempt"], run["restarts"], run["resumed_step"]) == (2, 1, 4)
    assert run["attempts"][0]["reason"] == "hung"
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


@pytest.mark.parametrize(("action", "reason", "words"), [("oom", "oom", "resources."), ("nan", "nan_loss", "finite")])
def test_trainer_cannot_go_on_and_says_why(stack: Stack, action: str, reason: str, words: str) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT=f"backward:3:{action}")
    run = stack.wait_for(run_id, "failed")
    assert (run["reason"], run["attempt"], run["restarts"]) == (reason, 1, 0) and words in run["message"]
    assert [x for x, _ in stack.series(run_id)] == [1, 2]
    wait_until(lambda: stack.trainers() == [])


def test_disk_that_is_full_at_a_checkpoint_costs_that_checkpoint_only(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="save:2:full")
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"]) == (1, 0)
    kept = sorted(path.name for path in (stack.folder(run_id) / "checkpoints").iterdir())
    assert kept == ["step-00000002", "step-00000006"]  # nothing half-written takes up room
    assert "step-00000004 cannot be written" in stack.http.get(f"/api/v1/runs/{run_id}/logs").text
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def test_disk_that_takes_no_event_ends_the_run(stack: Stack) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="backward:3:full")
    run = stack.wait_for(run_id, "failed")
    assert (run["reason"], run["attempt"]) == ("disk", 1) and "took no more" in run["message"]
    assert (stack.folder(run_id) / "events.jsonl").read_bytes().endswith(b"}\n")
    assert [x for x, _ in stack.series(run_id)] == [1, 2]
    wait_until(lambda: stack.trainers() == [])


def test_trainer_killed_more_often_than_it_may_be(stack: Stack) -> None:
    program = "import os; os.kill(os.getpid(), 9)"
    start = f"import sys; from worker.__main__ import main; sys.exit(main((sys.executable, '-c', {program!r}), None))"
    stack.start_worker(program=("-c", start))
    run_id = stack.launch()
    run = stack.wait_for(run_id, "failed")
    assert (run["reason"], run["attempt"], run["restarts"]) == ("killed", 4, 3)
    assert "NATLAB_MAX_RESTARTS is 3" in run["message"]


@pytest.mark.parametrize("damage", ["flipped byte", "truncated"])
def test_checkpoint_damaged(stack: Stack, undisturbed: Path, damage: str) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="backward:5:hold")
    stack.wait_for_fault()
    path = stack.folder(run_id) / "checkpoints" / "step-00000004" / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content if damage == "flipped byte" else content[: len(content) // 2])
    os.kill(stack.trainer(), signal.SIGKILL)
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["resumed_step"]) == (2, 2)
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)
    log = stack.http.get(f"/api/v1/runs/{run_id}/logs").text
    assert "step-00000004 is damaged: model/model.safetensors is not what was written" in log
