"""Events in run folders of this machine that the server never got: found, and sent again.

An attempt may end before the last of its events is stored: its worker was killed, or told to go, or the run was to
be gone at once. A later attempt in the folder brings what it finds there; where none follows, this does.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import redis

from nat_core.logs import about
from worker.client import ServerClient
from worker.errors import RefusedError, ServerAwayError
from worker.folder import black_boxes, last_attempt
from worker.relay import EventRelay
from worker.tail import EventTail
from worker.usage_log import UsageLog

log = logging.getLogger(__name__)

EVERY_S = 60.0
_MARK = "stored"
_MOST_TRIES = 5


class Leftovers:
    """Looks after the folders that no trainer holds.

    A folder of which the server has everything gets a mark with its newest attempt, and is not asked about again.
    """

    def __init__(self, runs: Path, client: ServerClient, connection: redis.Redis) -> None:
        self._runs = runs
        self._client = client
        self._redis = connection
        self._tries: Counter[str] = Counter()

    def keep_sweeping(self, leaving: threading.Event, every_s: float = EVERY_S) -> None:
        """Look at once, and again now and then until the worker leaves."""
        while not leaving.is_set():
            try:
                self.sweep()
            except ServerAwayError as error:
                log.info("what is left in the runs' folders has to wait: %s", error.message)
            except OSError as error:
                log.warning("what is left in the runs' folders cannot be read: %s", error)
            leaving.wait(every_s)

    def sweep(self) -> None:
        """One look at every folder; what is missing is sent, and whether it arrived is seen at the next one.

        Raises:
            ServerAwayError: nobody tells what is missing; the rest is for the next time.
        """
        for folder in sorted(self._runs.iterdir()) if self._runs.is_dir() else []:
            if self._tries[folder.name] < _MOST_TRIES and last_attempt(folder) not in (None, _marked(folder)):
                with _unless_held(folder) as mine:
                    if mine:
                        self._look(folder)

    def _look(self, folder: Path) -> None:
        attempt = last_attempt(folder)
        try:
            stored = self._client.stored(folder.name)
        except RefusedError as refusal:
            if refusal.status == HTTPStatus.NOT_FOUND:  # deleted, or another server's run
                self._tries[folder.name] = _MOST_TRIES
            return
        missing = self._send_missing(folder, stored)
        if missing is None:
            return
        if not missing:
            (folder / _MARK).write_text(f"{attempt}\n", encoding="ascii")
            return
        self._tries[folder.name] += 1
        gives_up = "; it does not take them" if self._tries[folder.name] == _MOST_TRIES else ""
        log.info("%d events that the server lacks are sent%s", missing, gives_up, extra=about(folder.name))

    def _send_missing(self, folder: Path, stored: dict[int, int]) -> int | None:
        """How many events the server lacks, all of which are on their way now; None where Redis takes none."""
        missing = 0
        earlier: list[int] = []
        for attempt, box in sorted(black_boxes(folder).items()):
            if attempt in stored:
                tail = EventTail(box.events)
                tail.rewind(stored[attempt])
                told = UsageLog(box.usage).told
                relay = EventRelay(tail, self._redis, folder.name, attempt, folder=earlier, told=told)
                relay.pump()
                if relay.redis_away:
                    return None
                missing += tail.seq - stored[attempt]
            earlier.append(attempt)
        return missing


def _marked(folder: Path) -> int | None:
    try:
        return int((folder / _MARK).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _unless_held(folder: Path) -> Iterator[bool]:
    """Hold a folder for a moment, unless a trainer or a worker does: events are put beside when one begins."""
    try:
        lock = os.open(folder / "run.lock", os.O_RDWR)
    except OSError:  # no worker's folder
        yield False
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)
