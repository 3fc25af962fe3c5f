"""What anybody can send to the server while a run trains: the run does not notice, and the server does not grow."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.attacks import ATTACKS, PLAN, Reader, head, held_open, sent
from tests.faults.stack import Stack, assert_as_if_nothing_had_happened
from tests.server.support import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("lease_s", [10.0])]  # two cores do much else here

AT_ONCE = 4
MOST_GROWTH = 64 * 2**20  # two thirds of one of the bodies
DEAF, FLOOD = 20, 400  # streams that are never read; changes of 80 kB each, more than a listener's queue holds


def test_a_run_trains_on_while_its_server_is_attacked(stack: Stack, undisturbed: Path) -> None:
    run_id = stack.launch()
    stack.start_worker(FAULT="rollout:3:stop")
    stack.wait_for_fault()
    assert stack.http.get(f"/runs/{run_id}").is_success  # what is loaded when it is first needed is loaded
    before = stack.peak_memory("server")
    slow = [held_open(stack, head("GET", "/healthz")[:30]) for _ in range(20)]
    slow += [held_open(stack, head("POST", PLAN, "Content-Length: 10") + b"{") for _ in range(20)]
    rounds, held = 0, True
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while not stack.api.run(run_id)["finished_at"]:
            answers = pool.map(lambda attack: sent(stack, attack[0]()), ATTACKS.values())
            for (name, (_, allowed)), status in zip(ATTACKS.items(), answers, strict=True):
                assert status in allowed, (name, status)
            rounds += 1
            if held:  # the first round meets a run in the middle of a step, the others one that trains
                stack.go_on()
                held = False
    for wire in slow:
        wire.close()
    assert rounds >= 2 and stack.http.get("/readyz").is_success
    assert stack.peak_memory("server") - before < MOST_GROWTH
    assert "Traceback" not in stack.log("server")
    run = stack.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"]) == (1, 0)
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)


def num_listeners(stack: Stack) -> int:
    (number,) = re.findall(r"^natlab_stream_clients (\d+)$", stack.http.get("/metrics").text, re.MULTILINE)
    return int(number)


def test_streams_that_are_never_read_hold_up_nobody_and_one_that_comes_back_misses_nothing(
    stack: Stack, undisturbed: Path
) -> None:
    run_id, other = stack.launch(), stack.launch()
    stack.act(other, "pause")
    stack.start_worker(FAULT="rollout:3:stop")
    stack.wait_for_fault()
    before = stack.peak_memory("server")
    deaf = [held_open(stack, head("GET", "/api/v1/stream"), receive_bytes=4096) for _ in range(DEAF)]
    wait_until(lambda: num_listeners(stack) == DEAF)
    for number in range(FLOOD):
        notes = f"{number} " + "\N{FIRE}" * 19_990
        assert stack.http.patch(f"/api/v1/runs/{other}", json={"notes": notes}).is_success
    readers = [Reader(stack, run_id, restless) for restless in (False, True)]
    threads = [reader.start() for reader in readers]
    wait_until(lambda: num_listeners(stack) == DEAF + len(readers))
    stack.go_on()
    run = stack.wait_for(run_id, "succeeded")
    for thread in threads:
        thread.join(60)
    steady, restless = readers
    assert (steady.failed, restless.failed) == (None, None)
    assert restless.connections == len(restless.heard) > steady.connections == 1
    assert restless.heard == steady.heard and len(steady.heard) >= 5
    wait_until(lambda: num_listeners(stack) == DEAF)
    assert stack.peak_memory("server") - before < MOST_GROWTH
    received = b""
    while b"event: resync" not in received[-200_000:]:  # it lost what it did not read, and is told so
        piece = deaf[0].recv(65536)
        assert piece
        received += piece
    for wire in deaf:
        wire.close()
    wait_until(lambda: num_listeners(stack) == 0)
    assert (run["attempt"], run["restarts"]) == (1, 0)
    assert_as_if_nothing_had_happened(stack, run_id, undisturbed)
