"""The server, its database and Redis going away and coming back: training does not notice."""

from __future__ import annotations

import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.faults.stack import Stack, assert_as_if_nothing_had_happened
from tests.server.support import experiment, wait_until

pytestmark = pytest.mark.slow

DARK_S, LOCKED_S = 60.0, 10.0


def assert_undisturbed_by_it(stack: Stack, run_id: str, undisturbed: Path) -> None:
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"]) == (1, 0)
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def test_server_killed_while_the_run_trains_to_its_end(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="rollout:3:stop")
    stack.wait_for_fault()
    stack.signal("server", signal.SIGKILL)
    stack.go_on()
    stack.wait_for_the_end_of_training(run_id)
    stack.start_server()
    assert_undisturbed_by_it(stack, run_id, undisturbed)


def test_redis_is_killed_and_comes_back_empty(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="rollout:3:stop")
    stack.wait_for_fault()
    stack.signal("valkey", signal.SIGKILL)
    stack.go_on()
    stack.wait_for_the_end_of_training(run_id)
    stack.start_valkey()
    assert_undisturbed_by_it(stack, run_id, undisturbed)
    again = stack.launch()  # the worker has found back to it, too
    assert_undisturbed_by_it(stack, again, undisturbed)


def test_redis_forgets_everything_while_one_run_trains_and_another_waits(stack: Stack, undisturbed: Path) -> None:
    run_id, waiting = stack.launch(), stack.launch()
    stack.start_worker(FAULT="rollout:4:stop")
    stack.wait_for_fault()
    stack.redis.flushall()
    stack.go_on()
    assert_undisturbed_by_it(stack, run_id, undisturbed)
    assert_undisturbed_by_it(stack, waiting, undisturbed)


@pytest.mark.parametrize("lease_s", [8.0])
def test_redis_answers_nobody_for_a_minute(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="rollout:3:stop")
    stack.wait_for_fault()
    stack.signal("valkey", signal.SIGSTOP)
    dark_since = time.monotonic()
    stack.go_on()
    stack.wait_for_the_end_of_training(run_id)
    refused = stack.http.post("/api/v1/experiments", json=experiment())
    assert (refused.status_code, refused.json()["code"]) == (503, "broker_unavailable")
    wait_until(lambda: time.monotonic() - dark_since > DARK_S, DARK_S + 1)
    assert stack.api.run(run_id)["state"] == "running"  # the worker keeps its lease, and what is to be stored
    stack.signal("valkey", signal.SIGCONT)
    assert_undisturbed_by_it(stack, run_id, undisturbed)


@pytest.mark.parametrize("lease_s", [8.0])
def test_database_is_locked_for_longer_than_the_lease(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="rollout:3:stop")
    stack.wait_for_fault()
    other = sqlite3.connect(stack.home / "natlab.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    locked_since = time.monotonic()
    stack.go_on()
    stack.wait_for_the_end_of_training(run_id)
    wait_until(lambda: time.monotonic() - locked_since > LOCKED_S, LOCKED_S + 1)
    assert stack.api.run(run_id)["state"] == "running"  # reading goes on
    other.rollback()
    other.close()
    assert_undisturbed_by_it(stack, run_id, undisturbed)


def test_disk_of_the_server_takes_no_more_for_a_while(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="rollout:3:stop")
    stack.wait_for_fault()

    def is_refused() -> bool:
        return stack.http.patch(f"/api/v1/runs/{run_id}", json={"notes": "x" * 20_000}).status_code == 500

    with stack.disk_full("server"):
        wait_until(is_refused, 60)
        stack.go_on()
        stack.wait_for_the_end_of_training(run_id)
        wait_until(is_refused, 60)
        assert stack.api.run(run_id)["state"] == "running"  # reading goes on
    assert_undisturbed_by_it(stack, run_id, undisturbed)
