"""A trainer that is ready before there is a run: `python -m nat_core.spare`, its standard input a socket.

Torch and transformers take seconds to load, and a run that was launched should not wait for them. So an idle worker
keeps one process that has loaded them and waits. Becoming a run's trainer takes one message on that socket (of the kind
SOCK_SEQPACKET): `{"arguments": […], "environment": {…}}` as JSON, and with it file descriptors, the run's log first and
then the locks that a trainer holds while it lives. From then on it is `python -m nat_core` with those arguments, and
`ps` shows it as that. When the other end of the socket closes before, it ends.

CUDA reads `CUDA_VISIBLE_DEVICES` at its first use, and only the run knows which GPUs are its own. So none may be used
before. Should a library have done that while it was loaded, or should loading fail, the trainer starts over once it has
its run, in the same process.

Until it has a run, `ps` shows it as `python -m nat_core.spare loading`, then `waiting`.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nat_core import __main__ as trainer
from nat_core.lifeline import die_with_parent
from nat_core.loading import load_ahead

_MAX_MESSAGE = 256 * 1024
_MAX_DESCRIPTORS = 253  # what the kernel sends at once
_TOLD_TO_END = {signal.SIGTERM, signal.SIGINT}
_GPU_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dxg")
"""What a process holds open once it has used CUDA or ROCm."""


@dataclass(frozen=True)
class Job:
    """What makes a trainer a run's: its arguments, what its environment has besides, and open descriptors."""

    arguments: list[str]
    environment: dict[str, str]
    log: int
    locks: list[int]


def main(load: Callable[[], None] = load_ahead, train: Callable[[list[str]], int] = trainer.main) -> int:
    """Load, wait for a run, train it; the exit status is the trainer's."""
    # The arguments hold room for those of a run, which nobody needs to see. A signal to end waits while torch loads:
    # it may be meant for the run that has come meanwhile, and then it is the trainer's to handle.
    signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD_TO_END)
    die_with_parent()
    show_arguments(["nat_core.spare", "loading"])
    loaded = _try(load)
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as channel:
        job = receive(channel)
    if job is None:
        return 0
    become(job)
    if not loaded or holds(_GPU_DEVICES):
        os.execv(sys.executable, [sys.executable, "-m", "nat_core", *job.arguments])
    return train(job.arguments)


def receive(channel: socket.socket) -> Job | None:
    """Wait for the run; None when the worker is gone. A signal to end that comes before the run ends this process."""
    if not select.select([channel], [], [], 0)[0]:
        show_arguments(["nat_core.spare", "waiting"])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD_TO_END)
        select.select([channel], [], [])
        signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD_TO_END)
    message, descriptors, _, _ = socket.recv_fds(channel, _MAX_MESSAGE, _MAX_DESCRIPTORS)
    if not message:
        return None
    told = json.loads(message)
    log, *locks = descriptors
    return Job(told["arguments"], told["environment"], log, locks)


def become(job: Job) -> None:
    """Take on a run's log, environment, locks and name."""
    for printed in (sys.stdout, sys.stderr):
        printed.flush()
        os.dup2(job.log, printed.fileno())
    os.close(job.log)
    for lock in job.locks:
        os.set_inheritable(lock, True)  # kept should the trainer start over
    os.environ.update(job.environment)
    show_arguments(["nat_core", *job.arguments])


def holds(paths: Sequence[str]) -> bool:
    """Whether this process has a file open whose path begins with one of these."""
    for link in Path("/proc/self/fd").iterdir():
        try:
            opened = os.readlink(link)
        except OSError:  # the descriptor that lists them
            continue
        if opened.startswith(tuple(paths)):
            return True
    return False


def show_arguments(module_and_arguments: Sequence[str]) -> None:
    """Let `ps` and /proc show `python -m` and these, where the first arguments of the process leave the room."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, fields 48 and 49 of proc(5)
    shown = b"".join(os.fsencode(argument) + b"\0" for argument in [sys.executable, "-m", *module_and_arguments])
    if start and len(shown) <= end - start:
        ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


def _try(load: Callable[[], None]) -> bool:
    """Whether it could be loaded. What is wrong will come up again in the run, whose log is the place to tell it."""
    try:
        load()
    except Exception:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
