"""Which worker this is: a name that stays the same over restarts and that no two processes share."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from worker.errors import WorkerError


def take_identity(home: Path, hostname: str) -> str:
    """`<hostname>-<n>` with the lowest n that no living worker of this data folder has.

    The lock is held until the process ends, however it ends.
    """
    stem = re.sub(r"[^A-Za-z0-9.-]", "-", hostname)[:100] or "worker"
    try:
        home.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            lock = os.open(home / f"worker-{stem}-{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return f"{stem}-{number}"
    except OSError as error:
        raise WorkerError(
            f"NATLAB_HOME is {str(home)!r}, which cannot be written ({error.strerror}); set another folder"
        ) from None
    raise WorkerError(f"NATLAB_HOME is {str(home)!r}, where 999 workers run already; stop some")
