"""The stack that `natlab up` runs: how it refuses to start, how it ends, and what stops reach."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from client import valkey
from client.api import ApiError, NatLab, ServerUnreachable
from client.processes import Child
from nat_core.records import RunState
from nat_core.spec import ExperimentSpec
from tests.e2e.support import Command, free_port, natlab, processes_of, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def endless(spec: ExperimentSpec) -> ExperimentSpec:
    """The same with more steps than any test waits for."""
    base = spec.base.model_copy(update={"steps": 100_000})
    return spec.model_copy(update={"base": base, "budgets": spec.budgets[:1]})


def wait_for_step(lab: NatLab, run_id: str, step: int = 1, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while (run := lab.run(run_id)).step < step:
        assert not run.state.is_final, run.message
        assert time.monotonic() < deadline, f"{run_id} is {run.state} at step {run.step}"
        time.sleep(0.2)


def wait_none_left(home: Path, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while left := processes_of(home):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_stop_reaches_a_running_run_within_five_seconds(lab: NatLab, small_demo: ExperimentSpec) -> None:
    [run] = lab.launch(endless(small_demo)).runs
    wait_for_step(lab, run.id)
    started = time.monotonic()
    assert lab.stop(run.id).state == RunState.STOPPING
    while not lab.run(run.id).state.is_final:
        assert time.monotonic() - started < 20
        time.sleep(0.05)
    took = time.monotonic() - started
    assert lab.run(run.id).state == RunState.STOPPED
    # From the request to the recorded end, the step in hand and its checkpoint included.
    assert took < 5, f"stopping took {took:.1f} s"
    with pytest.raises(ApiError) as again:
        lab.stop(run.id)
    assert again.value.code == "illegal_transition"


def test_a_queued_run_is_stopped_at_once(lab: NatLab, small_demo: ExperimentSpec) -> None:
    [busy] = lab.launch(endless(small_demo)).runs
    [waiting] = lab.launch(endless(small_demo)).runs
    assert lab.stop(waiting.id).state == RunState.STOPPED
    wait_for_step(lab, busy.id)
    lab.stop(busy.id)
    assert lab.wait(busy.experiment_id).state == "stopped"


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_training_leaves_no_process(
    signum: signal.Signals, status: int, tmp_path: Path, small_demo: ExperimentSpec
) -> None:
    with running_stack(tmp_path / "home") as up:
        with up.connect() as lab:
            [run] = lab.launch(endless(small_demo)).runs
            wait_for_step(lab, run.id)
        assert any(f"-m nat_core {tmp_path / 'home' / 'runs'}" in line for line in processes_of(tmp_path / "home"))
        assert up.end(signum) == status
    assert processes_of(tmp_path / "home") == []


def test_a_killed_up_leaves_no_process(tmp_path: Path, small_demo: ExperimentSpec) -> None:
    with running_stack(tmp_path / "home") as up:
        with up.connect() as lab:
            [run] = lab.launch(endless(small_demo)).runs
            wait_for_step(lab, run.id)
        os.kill(up.process.pid, signal.SIGKILL)
        up.process.wait()
        wait_none_left(tmp_path / "home")


@pytest.mark.parametrize("victim", ["valkey-server", "-m server", "-m worker"])
def test_when_a_part_dies_the_rest_is_stopped_and_its_log_shown(victim: str, tmp_path: Path) -> None:
    with running_stack(tmp_path / "home") as up:
        [child] = [c for c in psutil.Process(up.process.pid).children() if victim in " ".join(c.cmdline())]
        child.kill()
        assert up.process.wait(40) == 1
    name = victim.removeprefix("-m ").removesuffix("-server")
    assert any(f"the {name} ended by itself with status -9" in line for line in up.lines), up.lines
    assert processes_of(tmp_path / "home") == []


def test_a_taken_port_is_one_sentence_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with natlab(tmp_path / "home", "up", port=port) as up:
            assert up.process.wait(30) == 2
    assert up.lines == [
        f"port {port} on 127.0.0.1 cannot be had (Address already in use); "
        "stop what uses it or set NATLAB_PORT to a free one"
    ]
    assert not (tmp_path / "home" / "logs").exists()


def test_an_unreachable_redis_is_one_sentence_before_anything_starts(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with natlab(tmp_path / "home", "up", env={"NATLAB_REDIS_URL": url}) as up:
        assert up.process.wait(30) == 2
    assert len(up.lines) == 1
    assert up.lines[0].startswith(f"NATLAB_REDIS_URL is {url}, where no Redis answers")
    assert not (tmp_path / "home" / "logs").exists()


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path, small_demo: ExperimentSpec) -> None:
    with running_stack(tmp_path / "home") as up, up.connect() as lab:
        ended = lab.wait(lab.launch(small_demo).id)
        before = lab.compare(ended.id)
    with pytest.raises(ServerUnreachable), up.connect() as gone:
        gone.experiments()
    with running_stack(tmp_path / "home") as up, up.connect() as lab:
        assert [found.id for found in lab.experiments()] == [ended.id]
        assert lab.compare(ended.id) == before


def test_with_redis_away_a_launch_is_refused_and_nothing_is_stored(tmp_path: Path, small_demo: ExperimentSpec) -> None:
    path = tmp_path / "v.sock"
    redis = Child("valkey", [str(valkey.binary()), *valkey.arguments(tmp_path, path)], tmp_path / "valkey.log")
    while not path.exists():
        time.sleep(0.05)
    with running_stack(tmp_path / "home", env={"NATLAB_REDIS_URL": f"unix://{path}"}) as up, up.connect() as lab:
        redis.stop(grace_s=5)
        with pytest.raises(ApiError) as refused:
            lab.launch(small_demo)
        assert (refused.value.problem.status, refused.value.code) == (503, "broker_unavailable")
        assert lab.experiments() == []


def test_the_stack_s_own_command_line_lists_and_compares(
    stack: Command, lab: NatLab, small_demo: ExperimentSpec
) -> None:
    ended = lab.wait(lab.launch(small_demo).id)
    assert ended.state == "succeeded"
    port = int(stack.url.rpartition(":")[2])
    with natlab(stack.home, "compare", ended.id, port=port) as compare:
        assert compare.process.wait(30) == 0
    assert any(line.startswith("rpc · linear · ½") for line in compare.lines)
    with natlab(stack.home, "ls", port=port) as ls:
        assert ls.process.wait(30) == 0
    assert any(line.startswith(ended.id) for line in ls.lines)
