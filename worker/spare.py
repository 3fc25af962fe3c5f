"""The spare trainer: one that an idle worker has started ahead, so that a run need not wait for torch to load.

It is spawned, not forked off a process that holds torch: forking copies one thread of many, and what the others held
(OpenMP's pool, locks of allocators and of CUDA) stays held in the child for ever. While a run trains there is no
spare: it would take memory and, as it loads, processor time from the run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

from worker.binding import bound_by
from worker.settings import trainer_environment

log = logging.getLogger(__name__)

SPARE = (sys.executable, "-m", "nat_core.spare")
_ROOM = 4096
"""Bytes of arguments that it starts with, so that it can show a run's arguments instead."""


class Spare:
    """A trainer process that waits for a run, in a session of its own; `nat_core.spare` is its other half.

    It ends when `line` is closed here, or when this worker is gone.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [*argv, "-" * _ROOM],
                    stdin=theirs.fileno(),
                    start_new_session=True,
                    env=trainer_environment(),
                    preexec_fn=bound_by(signal.SIGKILL),
                )
            except OSError:
                self.line.close()
                raise

    @property
    def waits(self) -> bool:
        return self.process.poll() is None

    def give(
        self, arguments: Sequence[str], environment: Mapping[str, str], log_file: int, locks: Sequence[int]
    ) -> bool:
        """Make it the trainer of a run, whose log and locks it gets; false where it is gone."""
        message = json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode()
        try:
            if self.waits:
                socket.send_fds(self.line, [message], [log_file, *locks])
                return True
        except OSError as error:
            log.warning("the spare trainer cannot be given a run (%s); another one is started", error)
        self.end()
        return False

    def end(self) -> None:
        """End it now; it has nothing to lose."""
        self.line.close()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Spares:
    """Keeps one spare at a time.

    Args:
        argv: the command that starts one; None for a worker that keeps none.
    """

    def __init__(self, argv: Sequence[str] | None = SPARE) -> None:
        self._argv = argv
        self._spare: Spare | None = None

    def prepare(self) -> None:
        """See that there is one. Call it in the main thread: the kernel ends it with the thread that started it."""
        if self._argv is None or (self._spare is not None and self._spare.waits):
            return
        self.end()
        try:
            self._spare = Spare(self._argv)
        except OSError as error:
            log.warning("no spare trainer could be started (%s); the next run waits for its own to load", error)

    def take(self) -> Spare | None:
        """The spare, for a run; whoever takes it ends it."""
        spare, self._spare = self._spare, None
        return spare

    def end(self) -> None:
        if (spare := self.take()) is not None:
            spare.end()
