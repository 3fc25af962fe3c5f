"""The ranks of one run as children of one process: what `resources.gpus` above 1 starts. No torch here.

They meet in a private file, and talk over this machine's own loopback: nothing of it can be reached from elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence

RENDEZVOUS_FILE = "NATLAB_RENDEZVOUS_FILE"
"""Environment variable: where the ranks that `launch` starts meet."""

_GRACE_S = 15.0  # for the others to tell why, once one has failed
_GOOD = (0, 3)  # succeeded, and stopped where it was told to
_FORWARDED = (signal.SIGTERM, signal.SIGINT)


def is_a_rank() -> bool:
    """Whether torchrun or `launch` started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def leads() -> bool:
    """Whether this process is the only one, or the first."""
    return not is_a_rank() or os.environ["RANK"] == "0"


def launch(count: int, arguments: Sequence[str], stop_asked: Callable[[], bool] = lambda: False) -> int:
    """Run `python -m nat_core` with these arguments as so many ranks; their exit status.

    When one fails, the others get a while to notice, and are then killed. A rank that a signal killed, other than by
    this process, takes it along: whoever supervises sees what it would have seen of a single trainer.

    Args:
        stop_asked: whether this process was told to stop before it could pass that on.
    """
    supervised = [] if "--supervised" in arguments else ["--supervised"]
    argv = [sys.executable, "-m", "nat_core", *arguments, *supervised]
    with tempfile.TemporaryDirectory(prefix="natlab-ranks-") as folder:
        ranks: list[subprocess.Popen[bytes]] = []
        with _signals_to(ranks) as told:
            for rank in range(count):
                environment = os.environ | _environment(rank, count, os.path.join(folder, "store"))
                ranks.append(subprocess.Popen(argv, stdin=subprocess.PIPE, env=environment))
            if told or stop_asked():  # before all were there to hear it
                _send(ranks, signal.SIGTERM)
            first_bad, codes = _wait(ranks)
    if first_bad is not None and first_bad < 0:
        _die_of(-first_bad)
    return first_bad if first_bad is not None and codes[0] <= 0 else codes[0]


def _environment(rank: int, count: int, store: str) -> dict[str, str]:
    """What torchrun would tell a rank, and where to meet."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    interface = {name: os.environ.get(name, "lo") for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": threads,
        RENDEZVOUS_FILE: store,
    } | (interface if sys.platform == "linux" else {})


@contextlib.contextmanager
def _signals_to(ranks: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Hand signals to stop on to the ranks; yields those that came."""
    told: list[int] = []

    def forward(number: int, _: object) -> None:
        told.append(number)
        _send(ranks, number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(ranks: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for rank in ranks:
        rank.send_signal(number)  # nothing where it has ended


def _die_of(number: int) -> None:
    """End by a signal, as one that came from outside."""
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> tuple[int | None, list[int]]:
    """The status of the first rank that ended badly, None where none did, and that of each."""
    ended: queue.Queue[int] = queue.Queue()
    for rank in ranks:
        threading.Thread(target=lambda of=rank: ended.put(of.wait()), daemon=True).start()
    first_bad: int | None = None
    for _ in ranks:
        try:
            code = ended.get(timeout=None if first_bad is None else _GRACE_S)
        except queue.Empty:
            for rank in ranks:
                rank.kill()
            code = ended.get()
        if code not in _GOOD and first_bad is None:
            first_bad = code
    return first_bad, [rank.wait() for rank in ranks]
