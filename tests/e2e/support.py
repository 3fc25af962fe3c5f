"""The whole stack as a person starts it, in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from client.api import NatLab, default_token

REPOSITORY = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that name `folder`, in their arguments or as NATLAB_HOME."""
    found = []
    for process in psutil.process_iter():
        try:
            mentions = [*process.cmdline(), process.environ().get("NATLAB_HOME", "")]
            living = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
            if living and any(str(folder) in mention for mention in mentions):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return found


def stack_environment(home: Path, port: int, **more: str) -> dict[str, str]:
    """This process's environment, with a stack's own home and port."""
    return os.environ | {"NATLAB_HOME": str(home), "NATLAB_PORT": str(port), "COLUMNS": "160"} | more


@dataclass
class Command:
    """A `natlab` command running in its own process; what it prints is collected as it comes."""

    process: subprocess.Popen[str]
    url: str
    home: Path
    lines: list[str] = field(default_factory=list)

    def wait_for_line(self, pattern: str, timeout_s: float = 90) -> re.Match[str]:
        """Wait until a printed line matches, and return the match."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match
            if ended:
                break
            time.sleep(0.05)
        raise AssertionError(f"no line matched {pattern!r}; printed:\n" + "\n".join(self.lines) + self.logs())

    def connect(self) -> NatLab:
        """A client with the token that the stack made."""
        return NatLab(self.url, default_token(self.url, self.home))

    def end(self, signum: signal.Signals = signal.SIGINT, timeout_s: float = 40) -> int:
        """Signal it, as Ctrl-C does, and return its exit status."""
        self.process.send_signal(signum)
        return self.process.wait(timeout_s)

    def logs(self) -> str:
        """The ends of its children's logs, for a failing test's message."""
        parts = [f"\n--- {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self.home.glob("logs/*.log"))]
        return "".join(parts)


@contextmanager
def natlab(
    home: Path, *arguments: str, port: int | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Command]:
    """Run a `natlab` command with its own home and port; it is killed at the end if it still runs."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "client", *arguments],
        cwd=REPOSITORY,
        env=stack_environment(home, port, **(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    command = Command(process, f"http://127.0.0.1:{port}", home)
    assert process.stdout is not None
    reader = threading.Thread(target=lambda out: command.lines.extend(map(str.rstrip, out)), args=(process.stdout,))
    reader.start()
    try:
        yield command
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(timeout=10)
        process.stdout.close()


@contextmanager
def running_stack(home: Path, env: Mapping[str, str] | None = None) -> Iterator[Command]:
    """`natlab up`, once it serves."""
    with natlab(home, "up", env=env) as command:
        command.wait_for_line(r"natlab is at http://\S+")
        yield command


def chromium_path() -> str | None:
    """The installed browser, or None for the one that Playwright downloaded."""
    return shutil.which("chromium") or shutil.which("google-chrome")
