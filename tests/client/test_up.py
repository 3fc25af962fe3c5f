"""The parts of `natlab up` that need no server: settings, ports, locks, children, the embedded Valkey."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis

from client.errors import SetupError
from client.processes import Child, StopRequested, stop_signals
from client.up import Settings, Stack, StackError, check_port, check_redis
from tests.e2e.support import REPOSITORY, free_port


def settings(home: Path, **changes: object) -> Settings:
    fields: dict[str, object] = {"home": home, "host": "127.0.0.1", "port": free_port(), "redis_url": None}
    return Settings(**(fields | changes))  # type: ignore[arg-type]


def wait_gone(pid: int, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment() == Settings(tmp_path / ".natlab", "127.0.0.1", 8300, None)
    monkeypatch.setenv("NATLAB_PORT", "8555")
    monkeypatch.setenv("NATLAB_HOST", "0.0.0.0")
    assert Settings.from_environment().url == "http://127.0.0.1:8555"


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1"])
def test_a_port_that_is_none_is_named(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATLAB_PORT", port)
    with pytest.raises(SetupError, match=f"NATLAB_PORT is '{port}', but a port is a number from 1 to 65535"):
        Settings.from_environment()


def test_a_taken_port_is_named_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"port {port} on 127.0.0.1 .* set NATLAB_PORT to a free one"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_an_unreachable_redis_is_named_without_its_password() -> None:
    with pytest.raises(
        SetupError, match=r"NATLAB_REDIS_URL is redis://127.0.0.1:1/0, where no Redis answers"
    ) as caught:
        check_redis("redis://:secret@127.0.0.1:1/0")
    assert "secret" not in str(caught.value)
    with pytest.raises(SetupError, match="NATLAB_REDIS_URL is nonsense"):
        check_redis("nonsense")


def test_two_stacks_cannot_share_a_home(tmp_path: Path) -> None:
    holder = "import sys, time; from pathlib import Path; from client.up import _lock_home\n"
    holder += "lock = _lock_home(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(SetupError, match="another `natlab up` is using"), Stack(settings(tmp_path)):
            pass
        process.kill()
    assert not (tmp_path / "logs").exists()


def test_the_embedded_valkey_is_private_keeps_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    stack = Stack(settings(tmp_path))
    url = stack._start_valkey()
    process = psutil.Process(stack.children[0].process.pid)
    folder = Path(url.removeprefix("unix://")).parent
    try:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not process.net_connections(kind="inet")
        client = redis.Redis.from_url(url)
        client.set("key", "value")
        assert client.config_get("save")["save"] == ""
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    finally:
        stack.stop()
    assert not folder.exists()
    assert not process.is_running()


def test_check_names_the_part_that_died_and_shows_the_end_of_its_log(tmp_path: Path) -> None:
    stack = Stack(settings(tmp_path))
    stack._spawn("worker", [sys.executable, "-c", "print('\\033[31mno luck'); raise SystemExit(7)"], dict(os.environ))
    stack.children[0].process.wait()
    with pytest.raises(StackError, match="the worker ended by itself with status 7") as caught:
        stack.check()
    assert caught.value.lines == [" [31mno luck"]
    stack.stop()


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = Child("stubborn", [sys.executable, "-c", code], tmp_path / "log")
    while not child.last_lines():
        time.sleep(0.02)
    started = time.monotonic()
    child.stop(grace_s=0.5)
    assert 0.5 <= time.monotonic() - started < 5
    assert child.process.returncode == -signal.SIGKILL


def test_a_second_signal_cuts_the_grace_short(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = Child("stubborn", [sys.executable, "-c", code], tmp_path / "log")
    while not child.last_lines():
        time.sleep(0.02)
    started = time.monotonic()
    child.stop(grace_s=60, hurried=lambda: True)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("under_nohup", [False, True])
def test_a_terminal_that_goes_ends_what_was_not_started_to_outlive_it(under_nohup: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if under_nohup else signal.SIG_DFL)
    stopped: list[int] = []
    try:
        with stop_signals():
            try:
                signal.raise_signal(signal.SIGHUP)
                signal.raise_signal(signal.SIGTERM)
            except StopRequested as stop:
                stopped.append(stop.signum)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stopped == [signal.SIGTERM if under_nohup else signal.SIGHUP]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from client.processes import Child\n"
        "child = Child('c', [sys.executable, '-c', 'import time; time.sleep(60)'], Path(sys.argv[1]) / 'log')\n"
        "print(child.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
    wait_gone(child)


@pytest.mark.skipif(sys.platform != "linux", reason="child subreapers are Linux's")
def test_an_orphaned_grandchild_is_ended_too(tmp_path: Path) -> None:
    # The child leaves a grandchild in a session of its own, as the worker does its trainer, and dies.
    child = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], "
    child += "start_new_session=True); print(p.pid, flush=True)"
    code = (
        "import sys; from pathlib import Path; from client.processes import Child, adopt_orphans, end_orphans\n"
        f"adopt_orphans(); child = Child('c', [sys.executable, '-c', {child!r}], Path(sys.argv[1]))\n"
        "child.process.wait(); end_orphans(); print(Path(sys.argv[1]).read_text())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "log")], cwd=REPOSITORY, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert not psutil.pid_exists(int(done.stdout))
