"""Housekeeping: what goes, what stays, and that the disk has it back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from nat_core.events import LogEvent
from server.ingest import Batch, store_batches
from server.rows import run_row
from server.tables import utc_now
from tests.server.conftest import Api
from tests.server.support import metrics, row_counts


def ended(api: Api, app: FastAPI, name: str, days_ago: float = 0.0) -> tuple[str, str]:
    """An experiment whose one run has ended; the ids of both."""
    launched = api.launch(name=name, budgets=[{"selector": "full"}])
    run_id = launched["runs"][0]["id"]
    api.claim(run_id)
    api.finish(run_id)
    with app.state.store.db.write() as session:
        run_row(session, run_id).finished_at = utc_now() - timedelta(days=days_ago)
    return launched["id"], run_id


def folder_of(app: FastAPI, run_id: str, size: int = 100_000) -> Path:
    folder: Path = app.state.settings.runs / run_id
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "weights").write_bytes(b"x" * size)
    return folder


def test_folders_of_runs_that_are_not_there_go_and_others_stay(app: FastAPI, api: Api) -> None:
    _, run_id = ended(api, app, "kept")
    kept, left = folder_of(app, run_id), folder_of(app, "run-0000000000")
    other = app.state.settings.runs / "my-notes"
    other.mkdir()
    outside = app.state.settings.home / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    (app.state.settings.runs / "run-1111111111").symlink_to(outside)
    planned = api.call("POST", "/gc", json={"dry_run": True})
    assert left.exists() and planned["folders"] == ["run-0000000000", "run-1111111111"]
    swept = api.call("POST", "/gc", json={})
    assert swept["folders"] == planned["folders"]
    assert swept["folder_bytes"] == planned["folder_bytes"] >= 100_000
    assert kept.exists() and other.exists() and not left.exists() and (outside / "file").read_text() == "kept"
    assert api.call("POST", "/gc", json={})["folders"] == []


def test_a_folder_that_cannot_be_removed_keeps_no_other_from_going(
    app: FastAPI, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, left = folder_of(app, "run-0000000000"), folder_of(app, "run-1111111111")
    remove = shutil.rmtree

    def refuse_one(folder: Path) -> None:
        if folder == stuck:
            raise PermissionError(f"{folder} is root's")
        remove(folder)

    monkeypatch.setattr("server.gc.shutil.rmtree", refuse_one)
    swept = api.call("POST", "/gc", json={})
    assert swept["folders"] == [left.name] and 100_000 <= swept["folder_bytes"] < 200_000
    assert stuck.exists() and not left.exists()


def test_the_file_shrinks_by_what_deleted_runs_held(app: FastAPI, api: Api) -> None:
    _, run_id = ended(api, app, "large")
    _, small = ended(api, app, "small")
    long = [LogEvent(seq=seq, time=0, step=0, message="x" * 1000) for seq in range(1, 3001)]
    store_batches(app.state.store, [Batch(run_id, 1, long), Batch(small, 1, [metrics(1, 1, reward=0.5)])])
    api.call("POST", "/gc", json={})  # the write-ahead log goes into the file
    before = app.state.settings.database.stat().st_size
    api.call("DELETE", f"/runs/{run_id}")
    assert app.state.settings.database.stat().st_size == before
    swept = api.call("POST", "/gc", json={})
    after = app.state.settings.database.stat().st_size
    assert swept["database_bytes"] == before - after > 3_000_000
    assert app.state.store.db.free_bytes() == 0
    assert [event["values"] for event in api.call("GET", f"/runs/{small}/events")] == [{"reward": 0.5}]
    with app.state.store.db.read() as session:
        assert session.execute(text("PRAGMA integrity_check")).scalar() == "ok"


def test_a_file_from_before_can_shrink_too(app: FastAPI, api: Api) -> None:
    with app.state.store.db._alone() as raw:
        raw.execute("PRAGMA auto_vacuum = 0")
        raw.execute("VACUUM")
        assert raw.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    _, run_id = ended(api, app, "large")
    long = [LogEvent(seq=seq, time=0, step=0, message="x" * 1000) for seq in range(1, 2001)]
    store_batches(app.state.store, [Batch(run_id, 1, long)])
    api.call("DELETE", f"/runs/{run_id}")
    api.call("POST", "/gc", json={})
    assert app.state.settings.database.stat().st_size < 500_000
    with app.state.store.db._alone() as raw:
        assert raw.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_old_archives_go_when_asked_for_with_all_that_they_hold(app: FastAPI, api: Api) -> None:
    old, old_run = ended(api, app, "old", days_ago=40)
    young, _ = ended(api, app, "young", days_ago=3)
    current, _ = ended(api, app, "current", days_ago=400)
    for experiment_id in (old, young):
        api.call("POST", f"/experiments/{experiment_id}/archive")
    folder = folder_of(app, old_run)
    assert api.call("POST", "/gc", json={})["experiments"] == []
    assert api.call("POST", "/gc", json={"archived_days": 30, "dry_run": True})["experiments"] == [old]
    assert row_counts(app)["experiment"] == 3
    assert api.call("POST", "/gc", json={"archived_days": 30})["experiments"] == [old]
    assert not folder.exists()
    assert {api.call("GET", f"/experiments/{left}")["name"] for left in (young, current)} == {"young", "current"}


def disk_use(app: FastAPI) -> int:
    home: Path = app.state.settings.home
    return sum(path.stat().st_blocks * 512 for path in home.rglob("*") if path.is_file() and not path.is_symlink())


def test_old_checkpoints_go_when_asked_for_and_what_was_reported_stays(app: FastAPI, api: Api) -> None:
    _, old = ended(api, app, "old", days_ago=40)
    _, young = ended(api, app, "young", days_ago=3)
    _, linked = ended(api, app, "linked", days_ago=40)
    going = api.one_run()
    api.claim(going)
    store_batches(app.state.store, [Batch(old, 1, [metrics(1, 1, reward=0.5)])])
    kept = [folder_of(app, run_id) / "checkpoints" / "weights" for run_id in (young, going)]
    outside = app.state.settings.home / "outside"
    outside.mkdir()
    (outside / "weights").write_bytes(b"x")
    (app.state.settings.runs / linked).mkdir()
    (app.state.settings.runs / linked / "checkpoints").symlink_to(outside)
    (folder_of(app, old, 4_000_000) / "events.jsonl").write_text("kept")
    api.call("POST", "/gc", json={})
    before = disk_use(app)
    planned = api.call("POST", "/gc", json={"checkpoints_days": 30, "dry_run": True})
    assert planned["checkpoints"] == [old] and disk_use(app) == before
    swept = api.call("POST", "/gc", json={"checkpoints_days": 30})
    assert swept["checkpoints"] == [old] and swept["folder_bytes"] >= 4_000_000
    assert before - disk_use(app) >= 4_000_000
    assert all(path.exists() for path in [*kept, outside / "weights"])
    assert (app.state.settings.runs / old / "events.jsonl").exists()
    assert api.call("GET", f"/runs/{old}/checkpoints") == [] and len(api.call("GET", f"/runs/{old}/events")) == 1
    assert api.call("POST", "/gc", json={"checkpoints_days": 30})["checkpoints"] == []


def test_an_archive_whose_runs_have_not_all_ended_stays(app: FastAPI, api: Api) -> None:
    launched = api.launch(name="waiting")
    api.call("POST", f"/experiments/{launched['id']}/archive")
    assert api.call("POST", "/gc", json={"archived_days": 0})["experiments"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"archived_days": -1},
        {"archived_days": "x"},
        {"days": 3},
        {"archived_days": 1e9},
        {"checkpoints_days": -1},
        {"dry_run": 0},
        {"dry_run": "no"},
    ],
)
def test_wrong_options_are_refused(problem: Callable[..., Any], body: dict[str, Any]) -> None:
    problem(422, "bad_spec", "POST", "/gc", json=body)
