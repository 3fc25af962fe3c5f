"""Workers that die, fall silent, come twice or live in another time: the run is trained once."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from server.broker import celery_url
from tests.e2e.support import processes_of
from tests.faults.stack import HANG_S, Stack, assert_as_if_nothing_had_happened
from tests.server.support import wait_until

pytestmark = pytest.mark.slow

VISIBILITY_S = (
    3  # messages are acknowledged when the work is done, so that Redis takes them for lost and hands them out
)
REDELIVERING = f"""
import sys
from celery import signals
from worker import __main__, app
make = app.make_app
def make_impatient(*args):
    made = make(*args)
    options = dict(unacked_restore_interval=1, unacked_restore_throttle=1, unacked_restore_limit=None)
    made.conf.update(task_acks_late=True, broker_transport_options=dict(visibility_timeout={VISIBILITY_S}, **options))
    return made
@signals.task_prerun.connect(weak=False)
def say(task, **_):
    print("delivered again" if task.request.delivery_info.get("redelivered") else "delivered", flush=True)
app.make_app = make_impatient
sys.exit(__main__.main())
"""


def test_worker_killed(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="backward:5:hold")
    stack.wait_for_fault()
    stack.signal("worker", signal.SIGKILL)
    wait_until(lambda: stack.trainers() == [])  # no orphan keeps a GPU
    stack.start_worker()
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"], run["resumed_step"]) == (2, 1, 4)
    assert run["attempts"][0]["reason"] == "worker_lost"
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def test_trainer_outlives_its_lease(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(name="worker-1", FAULT="backward:5:hold")
    stack.wait_for_fault()
    stack.signal("worker-1", signal.SIGSTOP)
    zombie = stack.trainer()
    stack.start_worker(name="worker-2")
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"], run["resumed_step"]) == (2, 1, 4)
    assert run["attempts"][0]["reason"] == "worker_lost"
    assert f"its earlier trainer {zombie} outlived its lease and is killed" in stack.log("worker-2")
    stack.signal("worker-1", signal.SIGCONT)
    wait_until(lambda: "the trainer is ended: attempt is 1" in stack.log("worker-1"))
    assert stack.api.run(run_id)["attempt"] == 2
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def test_task_whose_visibility_times_out_is_delivered_to_another_worker_and_done_once(
    stack: Stack, undisturbed: Path
) -> None:
    run_id = stack.launch()
    for name in ("worker-1", "worker-2"):
        stack.start_worker(("-c", REDELIVERING), name=name, FAULT="backward:5:stop")
    stack.wait_for_fault()
    taken, other = ("worker-1", "worker-2") if "attempt 1 begins" in stack.log("worker-1") else ("worker-2", "worker-1")

    def left_alone() -> bool:
        _, again, then = stack.log(other).partition("delivered again\n")
        return bool(again) and any("left alone" in line and run_id in line for line in then.splitlines())

    wait_until(left_alone, 60)
    stack.go_on()
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"]) == (1, 0)
    assert "begins" not in stack.log(other) and stack.log(taken).count("begins") == 1
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


@pytest.mark.parametrize("skew_s", [-3600, 3600])
def test_clock_of_a_worker_is_an_hour_off(stack: Stack, undisturbed: Path, skew_s: int) -> None:
    run_id = stack.launch()
    stack.start_worker(CLOCK_SKEW_S=str(skew_s))
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"]) == (1, 0)
    began, ended = (datetime.fromisoformat(run[key]) for key in ("started_at", "finished_at"))
    assert 0 < (ended - began).total_seconds() < 600 and abs((datetime.now(UTC) - ended).total_seconds()) < 600
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)
    events = stack.api.call("GET", f"/runs/{run_id}/events")
    assert all(abs(event["time"] - skew_s - time.time()) < 600 for event in events)


@pytest.mark.parametrize("lease_s", [6.0])
def test_clock_of_the_server_is_set_while_a_run_trains(stack: Stack, undisturbed: Path, lease_s: float) -> None:
    run_id = stack.launch()
    stack.start_worker(name="worker-1", FAULT="backward:5:hold")
    stack.wait_for_fault()
    stack.signal("worker-1", signal.SIGSTOP)  # for a third of its lease nothing but the time of day moves
    stack.set_clock_of_the_server(3600)
    silent_since = time.monotonic()
    wait_until(lambda: time.monotonic() - silent_since > lease_s / 3)
    stack.signal("worker-1", signal.SIGCONT)
    wait_until(lambda: abs(beaten_at(stack, run_id) - 3600 - time.time()) < 600)
    stack.signal("worker-1", signal.SIGKILL)
    stack.set_clock_of_the_server(-3600)  # by the time of day its last beat is two hours ahead
    stack.start_worker(name="worker-2")
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"], run["resumed_step"]) == (2, 1, 4)
    assert run["attempts"][0]["reason"] == "worker_lost"
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def beaten_at(stack: Stack, run_id: str) -> float:
    """The time of the last heartbeat of a run that is still in its first attempt."""
    run = stack.api.run(run_id)
    assert (run["state"], run["attempt"]) == ("running", 1) and run["eta_s"] >= 0
    return datetime.fromisoformat(run["heartbeat_at"]).timestamp()


class Pickled:
    """Whoever unpickles it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_message_that_is_pickled_is_thrown_away(stack: Stack) -> None:
    stack.start_worker()
    stack.spare()
    with Celery("anybody", broker=celery_url(stack.env["NATLAB_REDIS_URL"])) as anybody:
        anybody.send_task("natlab.train", args=[Pickled(stack.home / "made")], serializer="pickle", queue="natlab")
    wait_until(lambda: "ContentDisallowed" in stack.log("worker"), 30)
    run_id = stack.launch()
    stack.wait_for(run_id, "running")  # the worker goes on, and nothing was made
    assert not (stack.home / "made").exists()
    stack.act(run_id, "kill")
    stack.wait_for(run_id, "failed")
    wait_until(lambda: stack.trainers() == [])


def test_worker_told_to_go_hands_the_run_over(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(name="worker-1", FAULT="rollout:5:stop")
    stack.wait_for_fault()
    stack.signal("worker-1", signal.SIGTERM)
    stack.go_on(once_asked_to_end=True)
    stack.parts["worker-1"].wait(30)
    stack.start_worker(name="worker-2")
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"], run["resumed_step"]) == (2, 0, 3)
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)
    assert not os.path.exists(f"/proc/{stack.parts['worker-1'].pid}")


def test_worker_killed_while_it_waits_leaves_no_trainer(stack: Stack) -> None:
    stack.start_worker()
    spare = stack.spare()
    stack.signal("worker", signal.SIGKILL)
    wait_until(lambda: not [line for line in processes_of(stack.home) if int(line.split()[0]) == spare])


def test_trainer_that_waited_is_the_one_that_is_killed_and_the_run_goes_on(stack: Stack, undisturbed: Path) -> None:
    stack.start_worker(FAULT="backward:5:hold")
    spare = stack.spare()
    run_id = stack.launch()
    stack.wait_for_fault()
    assert stack.trainer() == spare
    os.kill(spare, signal.SIGKILL)
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"], run["resumed_step"]) == (2, 1, 4)
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def test_trainer_killed_while_it_waits_costs_the_run_nothing(stack: Stack, undisturbed: Path) -> None:
    stack.start_worker()
    os.kill(stack.spare(), signal.SIGKILL)
    run_id = stack.launch()
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"]) == (1, 0)
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def test_trainer_that_stands_still_while_it_waits_is_given_up(stack: Stack, undisturbed: Path) -> None:
    stack.start_worker(NATLAB_HANG_S=HANG_S)
    os.kill(stack.spare(), signal.SIGSTOP)
    run_id = stack.launch()
    run = stack.wait_for(run_id, "succeeded", 180)
    assert run["attempts"][0]["reason"] == "hung" and run["attempt"] == run["restarts"] + 1 >= 2
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)
