"""Which worker this is: a name that stays the same over restarts and that no two processes share."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from worker.errors import WorkerError


@dataclass(frozen=True)
class Identity:
    """One process of one worker.

    The name is unique within a data folder. Over several it may not be, since two machines can have one hostname:
    therefore the folder has a word of its own, and so has this process, which goes with every call.
    """

    worker_id: str
    home: str
    instance: str

    def with_home(self) -> Identity:
        """The same under a name that no worker of another data folder has."""
        stem, _, number = self.worker_id.rpartition("-")
        suffix = f"-{self.home[:6]}"
        return replace(self, worker_id=f"{stem.removesuffix(suffix)}{suffix}-{number}")


def take_identity(home: Path, hostname: str) -> Identity:
    """`<hostname>-<n>` with the lowest n that no living worker of this data folder has.

    The lock is held until the process ends, however it ends.
    """
    stem = re.sub(r"[^A-Za-z0-9.-]", "-", hostname)[:100] or "worker"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "runs").mkdir(mode=0o700, exist_ok=True)  # the home may be older, and open to all
        for number in range(1, 1000):
            lock = os.open(home / f"worker-{stem}-{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return Identity(f"{stem}-{number}", _word_of(home), secrets.token_hex(8))
    except OSError as error:
        raise WorkerError(
            f"NATLAB_HOME is {str(home)!r}, which cannot be written ({error.strerror}); set another folder"
        ) from None
    raise WorkerError(f"NATLAB_HOME is {str(home)!r}, where 999 workers run already; stop some")


def _word_of(home: Path) -> str:
    """The data folder's own word, made once and kept in it. It appears whole: workers may start at the same time."""
    kept, fresh = home / "worker-home", home / f".worker-home.{os.getpid()}"
    if not kept.exists():
        fresh.write_text(f"{secrets.token_hex(6)}\n", encoding="ascii")
        try:
            os.link(fresh, kept)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return kept.read_text(encoding="ascii").strip()[:64]
