from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.server.support import wait_until
from tests.worker.test_supervisor import assert_gone
from worker.client import Claimed
from worker.errors import FolderTakenError
from worker.folder import RunFolder

Holder = Callable[[Path], "subprocess.Popen[bytes]"]


def take(path: Path, attempt: int = 1, wait_s: float = 0) -> RunFolder:
    return RunFolder(path, Claimed(path.name, attempt, 0, {"steps": 1}), wait_s)


@pytest.fixture
def holder() -> Iterator[Holder]:
    """Hands a folder's lock to a process that does nothing with it, as a trainer that hangs."""
    started: list[subprocess.Popen[bytes]] = []

    def hold(path: Path) -> subprocess.Popen[bytes]:
        folder = take(path)
        argv = [sys.executable, "-c", "import time; time.sleep(600)", str(path)]
        started.append(subprocess.Popen(argv, pass_fds=(folder.lock,), start_new_session=True))
        folder.name_holder(started[-1].pid)
        folder.let_go()
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.wait()


def test_events_of_each_earlier_attempt_are_kept_under_its_number(tmp_path: Path) -> None:
    (first := take(tmp_path, 1)).let_go()
    assert first.earlier == []
    (tmp_path / "events.jsonl").write_text("first\n")
    take(tmp_path, 2).let_go()  # taken, but its trainer never wrote anything
    (third := take(tmp_path, 3)).let_go()
    (tmp_path / "events.jsonl").write_text("third\n")
    (fourth := take(tmp_path, 4)).let_go()
    assert third.earlier == [1] and fourth.earlier == [1, 3]
    assert {number: box.events.read_text() for number, box in fourth.left_behind.items()} == {
        1: "first\n",
        3: "third\n",
    }
    assert not (tmp_path / "events.jsonl").exists()


def test_attempt_does_not_go_on_in_its_own_events(tmp_path: Path) -> None:
    take(tmp_path, 2).let_go()
    (tmp_path / "events.jsonl").write_text("second\n")
    with pytest.raises(FolderTakenError, match="holds events of attempt 2 already"):
        take(tmp_path, 2)


def test_folder_is_held_as_long_as_the_process_that_got_its_lock_lives(tmp_path: Path, holder: Holder) -> None:
    process = holder(tmp_path)
    (tmp_path / "run.lock").write_text("")  # nobody knows whose it is
    with pytest.raises(FolderTakenError, match="held by a trainer of an earlier attempt"):
        take(tmp_path, 2, wait_s=0.3)
    assert process.poll() is None
    process.kill()
    process.wait()
    take(tmp_path, 2).let_go()


def test_trainer_that_outlived_its_lease_is_ended(tmp_path: Path, holder: Holder) -> None:
    process = holder(tmp_path)
    take(tmp_path, 2, wait_s=5).let_go()
    assert_gone(process.pid)


def test_trainer_that_outlived_its_lease_is_ended_though_the_clock_was_set_meanwhile(
    tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = holder(tmp_path)
    began = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began(self) + 3600)  # it is told as a time of day
    take(tmp_path, 2, wait_s=5).let_go()
    assert_gone(process.pid)


@pytest.mark.parametrize("change", ['"started": 1.5', '"boot": "another"'])
def test_nothing_but_the_very_trainer_is_ended(tmp_path: Path, holder: Holder, change: str) -> None:
    process = holder(tmp_path)
    lock = tmp_path / "run.lock"
    lock.write_text(lock.read_text().removesuffix("}") + f", {change}}}")
    with pytest.raises(FolderTakenError):
        take(tmp_path, 2, wait_s=0.3)
    assert process.poll() is None


def test_process_of_another_folder_is_not_ended(tmp_path: Path, holder: Holder) -> None:
    process = holder(tmp_path / "one")
    other = holder(tmp_path / "other")
    (tmp_path / "one" / "run.lock").write_text((tmp_path / "other" / "run.lock").read_text())
    with pytest.raises(FolderTakenError):
        take(tmp_path / "one", 2, wait_s=0.3)
    assert process.poll() is None and other.poll() is None


def test_trainer_started_by_hand_keeps_others_out_of_its_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, Claimed(tmp_path.name, 1, 0, {"budget": {"selector": "full"}}), 0)
    argv = [sys.executable, "-m", "nat_core", str(tmp_path / "spec.json"), "--output", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ})
    folder.let_go()
    assert done.returncode == 2 and "another trainer runs" in done.stderr


def test_trainer_process_takes_the_lock_over_from_its_worker(tmp_path: Path) -> None:
    from tests.worker.conftest import FAKE_TRAINER
    from worker.gpus import Lease
    from worker.trainer import TrainerProcess

    folder = RunFolder(tmp_path, Claimed(tmp_path.name, 1, 0, {"steps": 100_000}), 0)
    trainer = TrainerProcess(FAKE_TRAINER, folder, Lease())
    try:
        folder.let_go()
        wait_until((tmp_path / "events.jsonl").exists)
        assert psutil.pid_exists(trainer.pid)
        take(tmp_path, 2, wait_s=5).let_go()
        assert_gone(trainer.pid)
    finally:
        trainer.kill()
        wait_until(trainer.ended)
