"""Pause, stop and kill on real processes: in the middle of a step, and on a trainer that does not listen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.stack import STEPS, Stack, assert_as_if_nothing_had_happened
from tests.server.support import wait_until

pytestmark = pytest.mark.slow


def test_pause_in_the_middle_of_a_step_and_a_resume(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="rollout:4:stop")  # of the third step: the first rollout is the evaluation's
    stack.wait_for_fault()
    stack.act(run_id, "pause")
    stack.go_on(once_asked_to_end=True)
    paused = stack.wait_for(run_id, "paused")
    assert (paused["step"], paused["reason"], paused["finished_at"]) == (2, None, None)
    wait_until(lambda: stack.trainers() == [])
    stack.act(run_id, "resume")
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"], run["resumed_step"]) == (2, 0, 2)
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def test_stop_in_the_middle_of_a_step_keeps_a_checkpoint_of_the_step_before(stack: Stack) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="rollout:5:stop")
    stack.wait_for_fault()
    stack.act(run_id, "stop")
    stack.go_on(once_asked_to_end=True)
    run = stack.wait_for(run_id, "stopped")
    assert (run["step"], run["reason"]) == (3, None)
    assert [x for x, _ in stack.series(run_id)] == [1, 2, 3]
    assert (stack.folder(run_id) / "checkpoints" / "step-00000003" / "manifest.json").is_file()
    wait_until(lambda: stack.trainers() == [])


def test_pause_that_the_trainer_ignores_keeps_the_last_checkpoint(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="backward:5:hold", NATLAB_STOP_GRACE_S="0.5")
    stack.wait_for_fault()
    stack.act(run_id, "pause")
    assert stack.wait_for(run_id, "paused")["reason"] == "killed"
    wait_until(lambda: stack.trainers() == [])
    stack.act(run_id, "resume")
    assert stack.wait_for(run_id, "succeeded")["resumed_step"] == 4
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def test_kill_of_a_trainer_that_ignores_every_signal_it_can(stack: Stack) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="backward:3:hold")
    stack.wait_for_fault()
    stack.act(run_id, "stop")
    began = time.monotonic()
    stack.act(run_id, "kill")
    run = stack.wait_for(run_id, "failed")
    assert time.monotonic() - began < 10
    assert (run["reason"], run["restarts"]) == ("killed", 0)
    assert [x for x, _ in stack.series(run_id)] == [1, 2]
    wait_until(lambda: stack.trainers() == [])


def test_stop_that_races_the_end_of_a_run_ends_it_once(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT=f"fsync:partial-0000000{STEPS}/manifest:stop")
    stack.wait_for_fault()  # every step is done, the last checkpoint is being written
    stack.act(run_id, "stop")
    stack.go_on(once_asked_to_end=True)
    run = stack.wait_for(run_id, "succeeded")
    assert (run["step"], run["reason"], run["attempt"]) == (STEPS, None, 1)
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)
