"""Child processes that cannot outlive the command that started them.

A child runs in its own session, so that Ctrl-C in the terminal reaches the command alone, which then
stops its children in order. On Linux the kernel ends a child when the command dies by `kill -9`, and
grandchildren orphaned on the way come back to the command (child subreaper), which ends them too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Looked up before any fork: between fork and exec a child should do as little as it can.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def python_module(name: str, *arguments: str) -> list[str]:
    """The argv that runs a module of this installation; `-P` keeps the current folder off its path."""
    return [sys.executable, "-P", "-m", name, *arguments]


class Child:
    """One child process whose output goes to a log file.

    Args:
        name: what messages call it.
        argv: command and arguments; no shell.
        log: file for its stdout and stderr; an earlier one is kept as `<log>.1`.
        stdin: passed on to `subprocess.Popen`.
        env: its whole environment; this process's when not given.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_name(log.name + ".1"))
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),
            )

    def is_running(self) -> bool:
        return self.process.poll() is None

    def last_lines(self, count: int = 8) -> list[str]:
        """The end of its log, control characters taken out."""
        try:
            text = self.log.read_bytes()[-64_000:].decode("utf-8", "replace")
        except OSError:
            return []
        lines = [line for line in text.splitlines() if line.strip()][-count:]
        return ["".join(char if char.isprintable() else " " for char in line)[:500] for line in lines]

    def stop(self, grace_s: float, hurried: Callable[[], bool] = lambda: False) -> None:
        """SIGTERM, then SIGKILL once `grace_s` has passed or `hurried` says so. Returns when it is gone."""
        if self.is_running():
            self.process.terminate()
        deadline = time.monotonic() + grace_s
        while self.is_running() and time.monotonic() < deadline and not hurried():
            time.sleep(0.05)
        if self.is_running():
            self.process.kill()
        self.process.wait()


def adopt_orphans() -> None:
    """Let processes orphaned below this one become its children instead of init's (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(grace_s: float = 2.0) -> None:
    """End every child this process still has, first politely, and wait until they are gone (Linux)."""
    deadline = time.monotonic() + grace_s
    sent = signal.SIGTERM
    while children := _children():
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        sent = signal.SIGKILL if time.monotonic() > deadline else signal.SIGTERM
        time.sleep(0.05)


def _children() -> list[int]:
    found: list[int] = []
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in listing.read_text().split()]
    return found


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    prctl, terminate = _LIBC.prctl, int(signal.SIGTERM)

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, terminate, 0, 0, 0)
        # The parent may have died before the line above took hold.
        if os.getppid() != parent:
            os._exit(1)

    return in_child


class StopRequested(BaseException):
    """A signal asked this command to end; `signum` is which. Not an `Exception`, so nothing swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT, SIGTERM and SIGHUP into `StopRequested`, once; yields "was it asked again?".

    Only the first signal raises: what follows it is cleaning up, which a second one hurries but
    must not tear apart. Under `nohup`, which is for the night, the terminal may go.
    """
    received: list[int] = []

    def on_signal(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        if len(received) == 1:
            raise StopRequested(signum)

    handled = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    before: dict[signal.Signals, Any] = {number: signal.signal(number, on_signal) for number in handled}
    try:
        yield lambda: len(received) > 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
