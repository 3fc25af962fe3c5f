"""Children that the kernel ends with the process that started them, from their first moment on.

A trainer binds itself, too, but only once its Python runs: under load that takes seconds, in which its worker may die.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
# Looked up before any fork: between fork and exec a child should do as little as it can.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def bound_by(number: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn`: the child gets this signal when the thread that starts it is gone. None where there is no way."""
    if _LIBC is None:
        return None
    prctl, parent = _LIBC.prctl, os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above took hold
            os._exit(1)

    return in_child
