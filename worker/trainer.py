"""One trainer process: begun, told to stop, killed, and how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from nat_core.events import StateEvent
from worker.binding import bound_by
from worker.client import Outcome
from worker.folder import RunFolder
from worker.gpus import Lease
from worker.settings import trainer_environment
from worker.spare import Spare

TRAINER = (sys.executable, "-m", "nat_core")
_EXIT_STOPPED = 3
_EXIT_DISK = 4
_LAST_BYTES = 4096
_LAST_LINES = 5


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, as the server is told."""

    outcome: Outcome
    reason: str | None = None
    message: str | None = None


class TrainerProcess:
    """A trainer in a session of its own, bound to this worker.

    It holds one end of a pipe or socket whose other end is gone when this worker is, whatever killed it; the
    trainer ends itself then. It also holds the locks of its folder and its GPUs, as long as it lives.

    Args:
        argv: the command that starts one, for when there is no spare.
        spare: one that waits for a run.
    """

    def __init__(self, argv: Sequence[str], folder: RunFolder, lease: Lease, spare: Spare | None = None) -> None:
        self._log = folder.path / "trainer.log"
        arguments = [str(folder.path / "spec.json"), "--output", str(folder.path), "--resume", "--supervised"]
        locks = (folder.lock, *lease.locks)
        self._line: IO[bytes] | socket.socket
        with self._log.open("ab") as log:
            if spare is not None and spare.give(arguments, lease.environment, log.fileno(), locks):
                self._process, self._line = spare.process, spare.line
            else:
                self._process = subprocess.Popen(
                    [*argv, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=trainer_environment() | lease.environment,
                    pass_fds=locks,
                    preexec_fn=bound_by(signal.SIGKILL),
                )
                assert self._process.stdin is not None  # it was asked for
                self._line = self._process.stdin
        try:
            folder.name_holder(self.pid)
        except OSError:  # nobody will look after it
            self._kill_group()
            self._process.wait()
            self._line.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        """Whether it has ended; if so, nothing of its session is left."""
        if self._process.returncode is not None:
            return True
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        self._kill_group()  # before the wait: until then nobody else can get this process group's number
        self._process.wait()
        self._line.close()
        return True

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""
        if self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it now, with everything it started."""
        if self._process.returncode is None:
            self._kill_group()

    def ending(self, event: StateEvent | None) -> Ending:
        """How it ended: by its own last event, or where it wrote none by its exit status."""
        if event is not None and event.outcome is not None:
            return Ending(event.outcome, event.reason, event.message)
        code = self._process.returncode
        if code == 0:
            return Ending("succeeded")
        if code == _EXIT_STOPPED:
            return Ending("stopped")
        if code == _EXIT_DISK:  # which had no room for its last event either
            return Ending("failed", "disk", f"the disk took no more{self._last_words()}")
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            reason = "killed" if name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP") else "crashed"
            return Ending("lost", reason, f"the trainer was ended by {name}{self._last_words()}")
        return Ending("failed", "crashed", f"the trainer ended with status {code}{self._last_words()}")

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        """The last lines it printed, in one."""
        with self._log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        last = " | ".join(line.strip() for line in lines[-_LAST_LINES:] if line.strip())
        return f"; its last lines: {last[-1500:]}" if last else "; it printed nothing"
