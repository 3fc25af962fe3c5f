"""Several workers on one machine: a process for each run that can go on at the same time.

A worker process trains one run. A machine with several GPUs wants as many of them; this is the parent
that starts them, starts one that dies again, and takes them along when it goes, however it goes.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Sequence

from worker.binding import bound_by

_RESTART_S = 1.0
_LOOK_S = 0.2
_CANNOT_START = 2


def run_slots(count: int, argv: Sequence[str], environment: dict[str, str]) -> int:
    """Keep `count` processes of `argv` running until a signal says to leave; the exit status.

    One that cannot even start, for a reason it has told, ends them all; but not one that is started again, for which
    the reason will pass: the server or Redis is away, and the others train on meanwhile.
    """
    leaving = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leaving.set())
    slots = [_start(argv, environment) for _ in range(count)]
    status, again = 0, set[int]()
    while not leaving.wait(_LOOK_S):
        for place, process in enumerate(slots):
            if process.poll() is None:
                continue
            if process.returncode == _CANNOT_START and place not in again:
                leaving.set()
                status = _CANNOT_START
            elif not leaving.wait(_RESTART_S):
                print(f"natlab worker: a slot ended with status {process.returncode} and is started again", flush=True)
                slots[place] = _start(argv, environment)
                again.add(place)
    for process in slots:
        process.terminate()
    for process in slots:
        process.wait()
    return status


def _start(argv: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A worker that is told to go when this process is killed, and then hands its run back."""
    return subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, preexec_fn=bound_by(signal.SIGTERM))
