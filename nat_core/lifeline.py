"""What binds a trainer to the process that started it: no orphan keeps a GPU."""

from __future__ import annotations

import os
import signal
import sys
import threading


def die_with_parent() -> None:
    """From here on the kernel kills this process when the thread that started it is gone (Linux)."""
    if sys.platform == "linux":
        import ctypes

        parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(parent_death_signal, signal.SIGKILL)


def die_with_stdin() -> None:
    """From here on this process kills itself when nobody holds the other end of its standard input."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
