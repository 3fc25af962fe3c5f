"""What no attempt brought to the server is found in the runs' folders and brought there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from server.settings import Settings
from tests.server.conftest import Api
from tests.server.support import metrics, wait_until
from tests.worker.conftest import Start
from worker.client import Claimed, ServerClient
from worker.folder import RunFolder
from worker.leftovers import Leftovers
from worker.usage_log import UsageLog


@pytest.fixture
def leftovers(settings: Settings, server_url: str, redis_url: str) -> Iterator[Leftovers]:
    client = ServerClient(server_url)
    with redis.Redis.from_url(redis_url) as connection:
        yield Leftovers(settings.runs, client, connection)
    client.close()


@pytest.fixture
def left(api: Api, settings: Settings) -> Path:
    """The folder of a run that was lost in two attempts on this machine and has failed; nothing was ever sent."""
    folder = settings.runs / api.one_run()
    for attempt in (1, 2):
        api.claim(folder.name)
        held = RunFolder(folder, Claimed(folder.name, attempt, 0, {}), 0)
        steps = [metrics(seq, seq + 2 * attempt - 2, reward=0.1 * attempt) for seq in (1, 2)]
        (folder / "events.jsonl").write_text("".join(f"{step.model_dump_json()}\n" for step in steps) + '{"seq": 3, "t')
        UsageLog(held.own.usage).keep(1, {"system/memory_gib": float(attempt)})
        held.let_go()
        api.finish(folder.name, "lost" if attempt == 1 else "failed", attempt=attempt, reason="worker_lost")
    return folder


def stored(api: Api, run_id: str) -> Any:
    return api.call("GET", f"/runs/{run_id}/stored")["attempts"]


def test_what_is_left_is_sent_and_its_folder_then_left_alone(
    leftovers: Leftovers, left: Path, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftovers.sweep()
    wait_until(lambda: stored(api, left.name) == {"1": 2, "2": 2})
    found = api.call("GET", f"/runs/{left.name}/events")
    assert [event["values"].get("system/memory_gib") for event in found] == [1.0, None, 2.0, None]
    assert not (left / "stored").exists()  # it was sent, which is not yet stored
    leftovers.sweep()
    assert (left / "stored").read_text() == "2\n"
    monkeypatch.delattr(ServerClient, "stored")  # nobody asks again
    leftovers.sweep()


def test_a_folder_that_is_held_is_not_touched(leftovers: Leftovers, left: Path, api: Api) -> None:
    held = RunFolder(left, Claimed(left.name, 3, 0, {}), 0)
    leftovers.sweep()
    held.let_go()
    assert not (left / "stored").exists() and stored(api, left.name) == {"1": 0, "2": 0}
    leftovers.sweep()
    wait_until(lambda: stored(api, left.name) == {"1": 2, "2": 2})


def test_folders_of_nobody_are_passed_over(leftovers: Leftovers, settings: Settings, left: Path, api: Api) -> None:
    api.call("DELETE", f"/runs/{left.name}")
    left.mkdir()
    for name in ("attempt", "run.lock"):
        (left / name).write_text("1\n")
    (settings.runs / "by-hand").mkdir()
    leftovers.sweep()
    leftovers.sweep()
    assert sorted(os.listdir(left)) == ["attempt", "run.lock"]


def test_a_server_that_takes_nothing_is_not_asked_for_ever(
    leftovers: Leftovers, left: Path, api: Api, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(ServerClient, "stored", lambda self, run_id: asked.append(run_id) or {1: 0, 2: 0})
    for _ in range(9):
        leftovers.sweep()
    assert len(asked) == 5


def test_a_worker_looks_for_what_is_left_when_it_starts(start: Start, left: Path, api: Api) -> None:
    start()
    wait_until(lambda: stored(api, left.name) == {"1": 2, "2": 2}, 120)
