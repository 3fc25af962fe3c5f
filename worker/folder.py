"""A run's folder on this machine: held by one trainer at a time, and what earlier attempts left in it.

The lock (`run.lock`) belongs to the trainer process, which gets it from its worker: it is free exactly
when that process is gone. A worker that was given the run by the server may end a trainer of an
earlier attempt that still holds it: its lease is over, and only its own worker has not heard.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from nat_core.logs import about
from worker.client import Claimed
from worker.errors import FolderTakenError

log = logging.getLogger(__name__)

_EVENTS = re.compile(r"events\.(\d+)\.jsonl")
_LOOK_S = 0.1


@dataclass(frozen=True)
class BlackBox:
    """What one attempt leaves behind: its trainer's events, and what its worker sampled."""

    events: Path
    usage: Path


class RunFolder:
    """The folder of a run, locked for one attempt until the trainer that got `lock` is gone.

    Raises:
        FolderTakenError: another trainer holds it and cannot be ended from here.
        OSError: the folder cannot be used.
    """

    def __init__(self, path: Path, claimed: Claimed, wait_s: float) -> None:
        self.path = path
        self._attempt = claimed.attempt
        path.mkdir(parents=True, exist_ok=True)
        self.lock = os.open(path / "run.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(wait_s)
            self.earlier = self._prepare(claimed)
        except BaseException:
            self.let_go()
            raise

    def let_go(self) -> None:
        """Close this process's hold; a trainer that was started with `lock` keeps its own."""
        os.close(self.lock)

    def name_holder(self, pid: int) -> None:
        """Write down whose the lock is now, for a worker that has to end it."""
        text = json.dumps({"pid": pid, "started": _start_of(pid), "boot": _boot_id()})
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, text.encode(), 0)

    @property
    def own(self) -> BlackBox:
        """Where this attempt's trainer and worker write."""
        return BlackBox(self.path / "events.jsonl", self.path / f"usage.{self._attempt}.jsonl")

    @property
    def left_behind(self) -> dict[int, BlackBox]:
        """By earlier attempt, what it left here."""
        return {number: _box(self.path, number) for number in self.earlier}

    def _take(self, wait_s: float) -> None:
        give_up_at = time.monotonic() + wait_s
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            self._end_holder()
            if time.monotonic() >= give_up_at:
                raise FolderTakenError(
                    f"the run's folder {self.path} is held by a trainer of an earlier attempt, on another machine "
                    "or in another container; end it there"
                )
            time.sleep(_LOOK_S)

    def _end_holder(self) -> None:
        """Kill the trainer that holds the lock, if it is certainly the one that was written down."""
        try:
            holder = json.loads(os.pread(self.lock, 4096, 0))
            process = psutil.Process(holder["pid"])
            same = holder["boot"] == _boot_id() and _start_of(process.pid) == holder["started"]
            if same and str(self.path.resolve() / "run.lock") in [file.path for file in process.open_files()]:
                told = about(self.path.name, self._attempt)
                log.warning("its earlier trainer %d outlived its lease and is killed", process.pid, extra=told)
                os.killpg(process.pid, signal.SIGKILL)
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return  # it has just gone, or was never written down

    def _prepare(self, claimed: Claimed) -> list[int]:
        """Put the events of the last attempt beside, write the spec; returns the attempts that were here before."""
        events, number = self.path / "events.jsonl", self.path / "attempt"
        if events.exists():
            last = last_attempt(self.path) or claimed.attempt - 1
            if last >= claimed.attempt:
                raise FolderTakenError(f"the run's folder {self.path} holds events of attempt {last} already")
            events.rename(_box(self.path, last).events)
        _write(self.path / "spec.json", json.dumps(claimed.spec, indent=2, ensure_ascii=False) + "\n")
        _write(number, f"{claimed.attempt}\n")
        return [earlier for earlier in _put_beside(self.path) if earlier < claimed.attempt]


def last_attempt(folder: Path) -> int | None:
    """The newest attempt that a worker began in a folder; None where none did."""
    try:
        return int((folder / "attempt").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def black_boxes(folder: Path) -> dict[int, BlackBox]:
    """By attempt, all that there are in a folder."""
    boxes = {attempt: _box(folder, attempt) for attempt in _put_beside(folder)}
    last, events = last_attempt(folder), folder / "events.jsonl"
    return boxes | ({last: BlackBox(events, _box(folder, last).usage)} if last and events.exists() else {})


def _box(folder: Path, attempt: int) -> BlackBox:
    """Where an attempt's lie once a later one has begun."""
    return BlackBox(folder / f"events.{attempt}.jsonl", folder / f"usage.{attempt}.jsonl")


def _put_beside(folder: Path) -> list[int]:
    """The attempts whose events were put beside those of a later one."""
    found = (_EVENTS.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def _start_of(pid: int) -> int:
    """When a process began, in ticks since the machine did: setting the clock does not change it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19])


def _boot_id() -> str:
    """Which start of which machine this is: a process number means nothing elsewhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
