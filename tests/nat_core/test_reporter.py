"""The black box holds whole lines only, whatever happened to the trainer or the disk."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest

from nat_core.errors import DiskError
from nat_core.events import LogEvent, parse_event
from nat_core.reporter import Reporter


def test_half_a_line_of_a_killed_trainer_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = Reporter(path)
    first.emit(LogEvent, message="one")
    first.close()
    with path.open("ab") as file:
        file.write(b'{"seq": 2, "ti')
    second = Reporter(path)
    second.emit(LogEvent, message="two")
    second.close()
    assert [parse_event(line).seq for line in path.read_bytes().splitlines()] == [1, 2]


def test_event_that_the_disk_does_not_take_leaves_no_trace(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "events.jsonl")
    reporter.emit(LogEvent, message="one")
    before = (tmp_path / "events.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(DiskError, match=r"events\.jsonl cannot be written .*free some disk space"):
            reporter.emit(LogEvent, message="two")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "events.jsonl").read_bytes() == before
    assert reporter.emit(LogEvent, message="three").seq == 2  # there is room again
    reporter.close()


def test_events_are_on_disk_before_the_checkpoint_that_follows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nat_core import saving
    from nat_core.ranks import ALONE
    from nat_core.spec import CheckpointSpec

    done: list[str] = []

    def save_checkpoint(folder: Path, *_: object, **__: object) -> SimpleNamespace:
        done.append("checkpoint")
        return SimpleNamespace(path=folder / "step-00000001", size_bytes=1)

    monkeypatch.setattr(saving, "save_checkpoint", save_checkpoint)
    monkeypatch.setattr(os, "fsync", lambda number: done.append(Path(os.readlink(f"/proc/self/fd/{number}")).name))
    reporter = Reporter(tmp_path / "events.jsonl")
    saver = saving.Saver(tmp_path, CheckpointSpec(), reporter, SimpleNamespace(policy=SimpleNamespace(ranks=ALONE)))
    reporter.step = 1
    saver.save()
    assert done == ["events.jsonl", "checkpoint"]
    reporter.close()


def test_touch_moves_the_files_time(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "events.jsonl")
    os.utime(tmp_path / "events.jsonl", (0, 0))
    reporter.touch()
    assert (tmp_path / "events.jsonl").stat().st_mtime > 0
    reporter.close()
