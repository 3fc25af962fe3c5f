"""The trainer that waits for a run: it becomes that run's trainer in every respect, and never stays behind."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from server.settings import Settings
from tests.server.conftest import Api
from tests.server.support import wait_until
from tests.worker.conftest import FAKE_SPARE, FAKE_TRAINER, Start
from tests.worker.test_process import pid_of_trainer
from tests.worker.test_supervisor import assert_gone, in_thread
from worker.client import Claimed
from worker.errors import WorkerError
from worker.folder import RunFolder
from worker.gpus import Gpus
from worker.settings import WorkerSettings
from worker.spare import Spare, Spares
from worker.supervisor import Supervisor
from worker.trainer import TrainerProcess

pytestmark = pytest.mark.slow  # real processes, started and ended

NEVER_LOADED = (sys.executable, "-c", "from nat_core.spare import main; import time; main(lambda: time.sleep(600))")


@pytest.fixture
def spares(supervisor: Supervisor) -> Iterator[Spares]:
    """Where the supervisor's spare trainer is kept; one waits."""
    supervisor._spares = Spares(FAKE_SPARE)
    supervisor._spares.prepare()
    yield supervisor._spares
    supervisor._spares.end()


@pytest.fixture
def folder(api: Api, settings: Settings) -> Path:
    """The folder of a queued run of five steps."""
    return settings.runs / api.one_run()


def pid_of(spares: Spares) -> int:
    assert spares._spare is not None
    return spares._spare.process.pid


def children_of(worker: subprocess.Popen[Any], module: str) -> list[int]:
    """The trainers among them, or those that wait to be one."""
    found = []
    for child in psutil.Process(worker.pid).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if child.cmdline()[1:3] == ["-m", module]:
                found.append(child.pid)
    return found


def spare_of(worker: subprocess.Popen[str]) -> int:
    """The trainer that waits in this worker, or loads, once it is bound to it."""
    (pid,) = wait_until(lambda: children_of(worker, "nat_core.spare"), 20)
    return int(pid)


def test_spare_is_the_trainer_of_the_next_run_and_another_one_takes_its_place(
    supervisor: Supervisor, spares: Spares, api: Api, folder: Path
) -> None:
    waiting = pid_of(spares)
    supervisor.run(folder.name)
    run = api.run(folder.name)
    assert (run["state"], run["step"]) == ("succeeded", 5)
    assert (folder / "pid").read_text() == str(waiting) != str(pid_of(spares))
    assert_gone(waiting)
    again = folder.with_name(api.one_run())
    waiting = pid_of(spares)
    supervisor.run(again.name)
    assert (again / "pid").read_text() == str(waiting) and api.run(again.name)["state"] == "succeeded"


def test_spare_shows_the_run_and_holds_what_a_trainer_holds(tmp_path: Path) -> None:
    path, gpus = tmp_path / "run", Gpus(tmp_path, "box", [0, 1])
    folder = RunFolder(path, Claimed("run", 1, 1, {"steps": 100_000}), 0)
    spare = Spare(FAKE_SPARE)
    with gpus.lease_free() as lease:
        lease.keep(1)
        trainer = TrainerProcess(FAKE_TRAINER, folder, lease, spare)
    folder.let_go()
    try:
        wait_until((path / "events.jsonl").exists)
        assert trainer.pid == spare.process.pid == int((path / "pid").read_text())
        argv = psutil.Process(trainer.pid).cmdline()
        assert argv[1:6] == ["-m", "nat_core", str(path / "spec.json"), "--output", str(path)]
        with gpus.lease_free() as rest:
            assert len(rest) == 1
        RunFolder(path, Claimed("run", 2, 0, {}), 5).let_go()  # sees whose the lock is, and ends it
        assert_gone(trainer.pid)
        assert len(gpus.lease_free()) == 2
    finally:
        trainer.kill()
        wait_until(trainer.ended)


def test_spare_that_is_gone_or_cannot_be_reached_costs_nothing(
    supervisor: Supervisor, spares: Spares, api: Api, folder: Path
) -> None:
    waiting = psutil.Process(pid_of(spares))
    waiting.kill()
    assert_gone(waiting.pid)
    supervisor.run(folder.name)
    run = api.run(folder.name)
    assert (run["state"], run["attempt"]) == ("succeeded", 1)
    assert (folder / "pid").read_text() != str(waiting.pid)
    assert spares._spare is not None
    spares._spare.line.close()
    again = folder.with_name(api.one_run())
    supervisor.run(again.name)
    assert (api.run(again.name)["state"], api.run(again.name)["attempt"]) == ("succeeded", 1)


def test_what_is_left_to_say_of_a_death_is_in_the_runs_log(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "killed")
    supervisor._spares = Spares(FAKE_SPARE)
    supervisor._spares.prepare()
    supervisor.run(folder.name)
    supervisor._spares.end()
    run = api.run(folder.name)
    assert (run["state"], run["reason"]) == ("queued", "killed")
    assert "SIGKILL; its last lines: about to need too much" in run["message"]


def test_stop_reaches_a_trainer_that_was_a_spare(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.3")
    supervisor._spares = Spares(FAKE_SPARE)
    supervisor._spares.prepare()
    thread = in_thread(lambda: supervisor.run(folder.name))
    wait_until(lambda: api.run(folder.name)["step"] >= 1)
    api.call("POST", f"/runs/{folder.name}/stop")
    thread.join(5)
    supervisor._spares.end()
    run = api.run(folder.name)
    assert (run["state"], run["reason"]) == ("stopped", None) and run["step"] < 5


def test_secrets_do_not_reach_the_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATLAB_WORKER_TOKEN", "secret")
    monkeypatch.setenv("NATLAB_REDIS_URL", "redis://:secret@box")
    spare = Spare(FAKE_SPARE)
    environment = psutil.Process(spare.process.pid).environ()
    spare.end()
    assert not {"NATLAB_WORKER_TOKEN", "NATLAB_REDIS_URL"} & environment.keys()


def test_worker_that_leaves_prepares_no_spare(
    supervisor: Supervisor, spares: Spares, api: Api, folder: Path, leaving: threading.Event
) -> None:
    leaving.set()
    supervisor.run(folder.name)
    assert spares._spare is None and api.run(folder.name)["state"] == "queued"


def test_spare_that_cannot_be_started_is_done_without(
    supervisor: Supervisor, api: Api, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor._spares = Spares(("/nowhere/python",))
    supervisor._spares.prepare()
    assert "no spare trainer could be started" in caplog.text
    supervisor.run(folder.name)
    assert api.run(folder.name)["state"] == "succeeded"


# --- in a worker of its own -----------------------------------------------------------------------


def test_idle_worker_keeps_a_spare_and_a_busy_one_none(start: Start, api: Api, settings: Settings) -> None:
    worker = start(FAKE_SPARE, FAKE_STEP_S="0.2")
    waiting = spare_of(worker)
    run_id = api.launch(base={"steps": 1000}, budgets=[{"selector": "full"}])["runs"][0]["id"]
    assert pid_of_trainer(settings, run_id) == waiting
    wait_until(lambda: api.run(run_id)["step"] >= 1)
    assert children_of(worker, "nat_core") == [waiting] and children_of(worker, "nat_core.spare") == []
    api.call("POST", f"/runs/{run_id}/kill")
    assert spare_of(worker) != waiting


@pytest.mark.parametrize("argv", [FAKE_SPARE, NEVER_LOADED], ids=["waiting", "loading"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_spare_goes_with_its_worker(start: Start, number: signal.Signals, argv: tuple[str, ...]) -> None:
    worker = start(argv)
    waiting = spare_of(worker)
    worker.send_signal(number)
    worker.wait(12)
    assert_gone(waiting)


def test_spare_can_be_turned_off(start: Start, api: Api) -> None:
    worker = start(FAKE_SPARE, NATLAB_SPARE_TRAINER="off")
    record = api.launch()
    path = f"/experiments/{record['id']}"
    wait_until(lambda: api.call("GET", path)["state"] == "succeeded", 30)
    assert psutil.Process(worker.pid).children() == []


def test_setting_of_the_spare_is_checked() -> None:
    with pytest.raises(WorkerError, match="NATLAB_SPARE_TRAINER is 'no', but it is on or off"):
        WorkerSettings.from_env({"NATLAB_REDIS_URL": "redis://box", "NATLAB_SPARE_TRAINER": "no"})
