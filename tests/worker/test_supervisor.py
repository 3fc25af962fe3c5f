from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from fastapi import FastAPI

from server.settings import Settings
from tests.server.conftest import Api
from tests.server.support import metrics, wait_until
from worker.client import ServerClient
from worker.errors import RefusedError, ServerAwayError, StrangerError, WorkerError
from worker.folder import RunFolder
from worker.identity import Identity
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

pytestmark = pytest.mark.slow  # real processes, started and ended


def in_thread(call: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def assert_gone(pid: int) -> None:
    """The process is no more, or is a zombie that its adopter has still to collect."""

    def gone() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(gone)


@pytest.fixture
def folder(api: Api, settings: Settings) -> Path:
    """The folder of a queued run of five steps."""
    return settings.runs / api.one_run()


def of_trainer(latest: dict[str, float | None]) -> dict[str, float | None]:
    """Without the use of the machine, which the worker samples when it gets to it."""
    return {key: value for key, value in latest.items() if not key.startswith("system/")}


def of_machine(values: dict[str, float | None]) -> dict[str, float | None]:
    return {key: value for key, value in values.items() if key.startswith("system/")}


def test_run_is_complete_when_it_is_called_finished(supervisor: Supervisor, api: Api, folder: Path) -> None:
    supervisor.run(folder.name)
    run = api.run(folder.name)
    assert (run["state"], run["step"], run["worker_id"]) == ("succeeded", 5, "w-1")
    assert of_trainer(run["latest"]) == {"reward": 0.5, "loss": 0.5} and run["hardware"] == {"device": "fake"}
    events = api.call("GET", f"/runs/{folder.name}/events")
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert events[-1]["outcome"] == "succeeded"


def test_run_that_is_not_ours_is_left_alone(supervisor: Supervisor, api: Api, folder: Path) -> None:
    api.call("POST", f"/runs/{folder.name}/stop")
    supervisor.run(folder.name)
    supervisor.run("run-0000000000")
    assert not folder.exists()


def test_values_that_are_not_finite_arrive_as_null(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "nan")
    supervisor.run(folder.name)
    assert of_trainer(api.run(folder.name)["latest"]) == {"reward": 0.5, "loss": None}


ENDINGS = {
    "killed": ("queued", "killed", "SIGKILL; its last lines: about to need too much"),
    "raises": ("failed", "crashed", "RuntimeError: the reward function is wrong"),
    "reports failure": ("failed", "nan_loss", "the loss was NaN at step 2"),
    "torn line": ("failed", "crashed", "status 1; it printed nothing"),
    "silent end": ("succeeded", None, ""),
}


@pytest.mark.parametrize("mode", ENDINGS)
def test_ends_are_told_with_their_reason(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("FAKE_MODE", mode)
    supervisor.run(folder.name)
    run = api.run(folder.name)
    state, reason, words = ENDINGS[mode]
    assert (run["state"], run["reason"]) == (state, reason)
    assert words in (run["message"] or "")
    assert len(api.call("GET", f"/runs/{folder.name}/events", params={"type": "metrics"})) == 2


def test_stop_reaches_the_trainer_which_ends_by_itself(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.3")
    thread = in_thread(lambda: supervisor.run(folder.name))
    wait_until(lambda: api.run(folder.name)["step"] >= 1)
    api.call("POST", f"/runs/{folder.name}/stop")
    thread.join(5)
    run = api.run(folder.name)
    assert (run["state"], run["reason"]) == ("stopped", None) and run["step"] < 5
    assert api.call("GET", f"/runs/{folder.name}/events")[-1]["outcome"] == "stopped"


def test_run_is_over_with_its_last_event_however_long_the_exit_takes(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "slow farewell")
    began = time.monotonic()
    supervisor.run(folder.name)
    assert time.monotonic() - began < 20
    assert (api.run(folder.name)["state"], api.run(folder.name)["reason"]) == ("succeeded", None)
    assert_gone(int((folder / "pid").read_text()))


def test_trainer_that_ignores_the_stop_is_killed(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "deaf")
    monkeypatch.setenv("FAKE_STEP_S", "30")
    thread = in_thread(lambda: supervisor.run(folder.name))
    wait_until((folder / "pid").exists)
    api.call("POST", f"/runs/{folder.name}/stop")
    thread.join(6)
    run = api.run(folder.name)
    assert (run["state"], run["reason"]) == ("stopped", "killed")
    assert_gone(int((folder / "pid").read_text()))


def test_pause_keeps_the_run_and_a_resume_ends_it(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.3")
    thread = in_thread(lambda: supervisor.run(folder.name))
    wait_until(lambda: api.run(folder.name)["step"] >= 1)
    api.call("POST", f"/runs/{folder.name}/pause")
    thread.join(5)
    paused = api.run(folder.name)
    assert (paused["state"], paused["reason"]) == ("paused", None) and paused["step"] < 5
    api.call("POST", f"/runs/{folder.name}/resume")
    monkeypatch.setenv("FAKE_RESUMED", str(paused["step"]))
    monkeypatch.setenv("FAKE_STEP_S", "0.02")
    supervisor.run(folder.name)
    run = api.run(folder.name)
    assert (run["state"], run["restarts"], run["resumed_step"]) == ("succeeded", 0, paused["step"])
    steps = api.call("GET", f"/runs/{folder.name}/events", params={"type": "metrics"})
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5]


def test_kill_ends_a_deaf_trainer_without_asking(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch, worker_settings: WorkerSettings
) -> None:
    supervisor._settings = replace(worker_settings, stop_grace_s=600)
    monkeypatch.setenv("FAKE_MODE", "deaf")
    monkeypatch.setenv("FAKE_STEP_S", "30")
    thread = in_thread(lambda: supervisor.run(folder.name))
    wait_until((folder / "pid").exists)
    api.call("POST", f"/runs/{folder.name}/stop")
    wait_until(lambda: api.beat(folder.name)["desired"] == "stop")
    api.call("POST", f"/runs/{folder.name}/kill")
    thread.join(10)
    run = api.run(folder.name)
    assert (run["state"], run["reason"]) == ("failed", "killed")
    assert_gone(int((folder / "pid").read_text()))


def test_trainer_without_progress_is_killed_and_the_run_waits_again(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch, worker_settings: WorkerSettings
) -> None:
    supervisor._settings = replace(worker_settings, hang_s=0.5)
    monkeypatch.setenv("FAKE_STEP_S", "30")
    supervisor.run(folder.name)
    run = api.run(folder.name)
    assert (run["state"], run["reason"], run["restarts"]) == ("queued", "hung", 1)
    assert "NATLAB_HANG_S" in run["message"]
    assert_gone(int((folder / "pid").read_text()))


def test_trainer_that_the_disk_took_nothing_from_says_so_by_its_exit_status(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "full disk")
    supervisor.run(folder.name)
    run = api.run(folder.name)
    assert (run["state"], run["reason"]) == ("failed", "disk") and "no space" in run["message"]


def test_worker_told_to_leave_takes_its_trainer_along(
    supervisor: Supervisor, api: Api, folder: Path, leaving: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "deaf")
    monkeypatch.setenv("FAKE_STEP_S", "30")
    thread = in_thread(lambda: supervisor.run(folder.name))
    wait_until((folder / "pid").exists)
    leaving.set()
    thread.join(5)
    run = api.run(folder.name)
    assert (run["state"], run["reason"], run["restarts"]) == ("queued", "worker_left", 0)
    assert_gone(int((folder / "pid").read_text()))


def test_attempt_that_is_over_is_ended_without_a_word(
    supervisor: Supervisor, api: Api, folder: Path, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "deaf")
    monkeypatch.setenv("FAKE_STEP_S", "30")
    thread = in_thread(lambda: supervisor.run(folder.name))
    wait_until((folder / "pid").exists)
    app.state.life.finish(folder.name, 1, "lost", "worker_lost")  # as the server judges it
    thread.join(5)
    assert not thread.is_alive()
    assert api.run(folder.name)["reason"] == "worker_lost"
    assert_gone(int((folder / "pid").read_text()))


def test_what_the_trainer_started_does_not_outlive_it(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "family")
    supervisor.run(folder.name)
    assert api.run(folder.name)["state"] == "succeeded"
    assert_gone(int((folder / "child_pid").read_text()))


@pytest.mark.parametrize("when", ["while it trains", "at the end"])
def test_redis_that_forgets_gets_everything_again(
    supervisor: Supervisor,
    api: Api,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    app: FastAPI,
    when: str,
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.2" if when == "while it trains" else "0.01")
    app.state.ingestor.stop()  # so that Redis holds what it is about to forget
    thread = in_thread(lambda: supervisor.run(folder.name))
    last = '"phase":"ended"' if when == "at the end" else '"step":1'
    with redis.Redis.from_url(redis_url, decode_responses=True) as connection:
        wait_until(lambda: any(last in fields["events"] for _, fields in connection.xrange("natlab:events")))
        connection.flushall()
    from server.ingest import Ingestor

    ingestor = Ingestor(app.state.broker, app.state.store)
    ingestor.start()
    try:
        thread.join(15)
        events = api.call("GET", f"/runs/{folder.name}/events")
        assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
        assert api.run(folder.name)["state"] == "succeeded"
        sampled = {event["seq"]: of_machine(event["values"]) for event in events if event["type"] == "metrics"}
        kept = [json.loads(line) for line in (folder / "usage.1.jsonl").read_text().splitlines()]
        assert {seq: values for seq, values in sampled.items() if values} == {one["seq"]: one["values"] for one in kept}
        assert kept or when == "at the end"  # its steps are short: they may all be over at the first sample
    finally:
        ingestor.stop()


class Detour:
    """A Redis that refuses what is sent, or loses it, for as long as it is told to."""

    def __init__(self, there: redis.Redis, refuses: bool) -> None:
        self._there = there
        self._refuses = refuses
        self.taken_up = threading.Event()
        self.sent = 0

    def xadd(self, *arguments: Any) -> Any:
        self.sent += 1
        if self.taken_up.is_set():
            return self._there.xadd(*arguments)
        if self._refuses:
            raise redis.ConnectionError("it is away")
        return b"0-0"


def has_ended(folder: Path) -> bool:
    events = folder / "events.jsonl"
    return events.exists() and '"phase": "ended"' in events.read_text()


def test_run_whose_last_events_redis_does_not_take_is_not_called_finished(
    supervisor: Supervisor,
    api: Api,
    folder: Path,
    worker_settings: WorkerSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.relay._RETRY_S", 0.2)
    supervisor._settings = replace(worker_settings, stored_wait_s=0.3)
    supervisor._redis = detour = Detour(supervisor._redis, refuses=True)  # type: ignore[assignment]
    thread = in_thread(lambda: supervisor.run(folder.name))
    wait_until(lambda: has_ended(folder))
    sent = detour.sent
    wait_until(lambda: detour.sent >= sent + 6)  # and that takes longer than a server that answers would be given
    assert api.run(folder.name)["state"] == "running"
    detour.taken_up.set()
    thread.join(15)
    assert api.run(folder.name)["state"] == "succeeded"
    assert [event["seq"] for event in api.call("GET", f"/runs/{folder.name}/events")] == [1, 2, 3, 4, 5, 6, 7]


def test_run_whose_last_events_the_server_never_stores_ends_all_the_same_and_says_so(
    supervisor: Supervisor,
    api: Api,
    folder: Path,
    worker_settings: WorkerSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor._settings = replace(worker_settings, stored_wait_s=0.5)
    supervisor._redis = Detour(supervisor._redis, refuses=False)  # type: ignore[assignment]
    supervisor.run(folder.name)
    assert api.run(folder.name)["state"] == "succeeded"
    assert "the server lacks 7 of its events" in caplog.text


def test_secrets_do_not_reach_the_trainer(
    supervisor: Supervisor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"NATLAB_TOKEN", "NATLAB_TOKEN_FILE", "NATLAB_WORKER_TOKEN", "NATLAB_WORKER_TOKEN_FILE"}
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("FAKE_STEP_S", "0.2")
    thread = in_thread(lambda: supervisor.run(folder.name))
    wait_until((folder / "pid").exists)
    environment = psutil.Process(int((folder / "pid").read_text())).environ()
    assert not secrets & environment.keys() and environment["FAKE_STEP_S"] == "0.2"
    thread.join(10)


def test_run_that_was_lost_goes_on_and_what_was_never_sent_is_sent(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "killed")
    supervisor.run(folder.name)
    assert api.run(folder.name)["state"] == "queued"
    with (folder / "events.jsonl").open("a") as file:  # written, but its worker was killed before it was sent
        for seq, step in ((4, 3), (5, 4)):
            file.write(metrics(seq, step, reward=0.1 * step).model_dump_json() + "\n")
        file.write('{"seq": 6, "ti')
    monkeypatch.setenv("FAKE_MODE", "")
    monkeypatch.setenv("FAKE_RESUMED", "3")
    supervisor.run(folder.name)
    run = api.run(folder.name)
    assert (run["state"], run["attempt"], run["resumed_step"]) == ("succeeded", 2, 3)
    (series,) = api.call("GET", f"/runs/{folder.name}/metrics", params={"keys": "reward"})
    assert series["x"] == [1, 2, 3, 4, 5]
    assert series["y"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_folder_that_somebody_else_holds_gives_the_run_back_and_costs_it_nothing(
    worker_settings: WorkerSettings,
    supervisor: Supervisor,
    api: Api,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from worker.client import Claimed

    supervisor._settings = replace(worker_settings, folder_wait_s=0.2)
    monkeypatch.setattr("server.rests.REST_S", 0.0)
    held = RunFolder(folder, Claimed(folder.name, 1, 0, {}), 0)
    for attempt in range(1, 6):  # more often than it may be restarted
        supervisor.run(folder.name)
        run = api.run(folder.name)
        assert (run["state"], run["attempt"]) == ("queued", attempt)
        assert (run["reason"], run["restarts"]) == ("folder_taken", 0)
    held.let_go()
    supervisor.run(folder.name)
    assert api.run(folder.name)["state"] == "succeeded"


def test_folder_that_cannot_be_made_fails_the_run(supervisor: Supervisor, api: Api, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file in its place")
    supervisor.run(folder.name)
    run = api.run(folder.name)
    assert (run["state"], run["reason"]) == ("failed", "disk") and str(folder) in run["message"]


def test_training_goes_on_while_the_server_is_away(
    worker_settings: WorkerSettings, supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    heartbeat, away_until = ServerClient.heartbeat, time.monotonic() + 0.6

    def sometimes(client: ServerClient, me: Identity, run_id: str, attempt: int, step: int) -> object:
        if time.monotonic() < away_until:
            raise ServerAwayError("away")
        return heartbeat(client, me, run_id, attempt, step)

    monkeypatch.setattr(ServerClient, "heartbeat", sometimes)
    supervisor.run(folder.name)
    assert api.run(folder.name)["state"] == "succeeded"
    assert os.path.exists(worker_settings.runs / folder.name / "spec.json")


@pytest.mark.parametrize(
    "answer",
    [
        RefusedError("this server needs its token", 401, "unauthorized"),
        StrangerError("a proxy answered with 404"),
    ],
)
def test_training_goes_on_where_the_answer_says_nothing_of_the_attempt(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: WorkerError
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    heartbeat, answers = ServerClient.heartbeat, [answer] * 3

    def sometimes(client: ServerClient, me: Identity, run_id: str, attempt: int, step: int) -> object:
        if answers:
            raise answers.pop()
        return heartbeat(client, me, run_id, attempt, step)

    monkeypatch.setattr(ServerClient, "heartbeat", sometimes)
    supervisor.run(folder.name)
    run = api.run(folder.name)
    assert (run["state"], run["attempt"], answers) == ("succeeded", 1, [])


def test_trainer_whose_name_the_disk_does_not_take_is_ended_with_its_attempt(
    supervisor: Supervisor, api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "30")
    begun: list[int] = []

    def is_full(_folder: RunFolder, pid: int) -> None:
        begun.append(pid)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunFolder, "name_holder", is_full)
    supervisor.run(folder.name)
    run = api.run(folder.name)
    assert (run["state"], run["reason"]) == ("failed", "disk") and "No space left" in run["message"]
    assert [psutil.pid_exists(pid) for pid in begun] == [False]
