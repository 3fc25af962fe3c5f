from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlmodel import Session

from nat_core.records import TRANSITIONS, RunState
from server.errors import ConflictError, IllegalTransitionError, NotFoundError
from server.life import move
from server.settings import Settings
from server.tables import RunRow
from tests.server.conftest import Api
from tests.server.support import row_counts


@pytest.mark.parametrize("to", list(RunState))
@pytest.mark.parametrize("now", list(RunState))
def test_move_follows_the_table_of_transitions(now: RunState, to: RunState) -> None:
    run = RunRow(id="run-0", experiment_id="exp-0", cell=0, label="full", seed=0, steps=1, spec={}, state=now.value)
    if to in TRANSITIONS[now]:
        move(run, to)
        assert run.state == to and (run.finished_at is not None) == to.is_final
    else:
        with pytest.raises(IllegalTransitionError, match=f"is {now}.*not {to}"):
            move(run, to)
        assert run.state == now and run.finished_at is None


def test_claim_starts_an_attempt_and_hands_out_the_spec(api: Api) -> None:
    run_id = api.one_run()
    api.call("PUT", "/workers/w-1", json={"hostname": "box"})
    claimed = api.call("POST", f"/runs/{run_id}/claim", json={"worker_id": "w-1"})
    assert claimed["attempt"] == 1 and claimed["spec"]["steps"] == 5
    run = api.run(run_id)
    assert (run["state"], run["attempt"], run["worker_id"]) == ("running", 1, "w-1")
    assert [worker["run_id"] for worker in api.call("GET", "/workers")] == [run_id]


def test_claim_by_an_unknown_worker_changes_nothing(api: Api, problem: Any) -> None:
    run_id = api.one_run()
    problem(404, "not_found", "POST", f"/runs/{run_id}/claim", json={"worker_id": "stranger"})
    assert (api.run(run_id)["state"], api.run(run_id)["attempt"]) == ("queued", 0)


def test_of_many_claimants_at_once_one_wins(api: Api, app: FastAPI) -> None:
    run_id = api.one_run()
    for number in range(8):
        api.call("PUT", f"/workers/w-{number}", json={"hostname": "box"})
    start, won, lost = threading.Barrier(8), [], []

    def claim(worker_id: str) -> None:
        start.wait()
        try:
            won.append((worker_id, app.state.life.claim(run_id, worker_id).attempt))
        except ConflictError:
            lost.append(worker_id)

    threads = [threading.Thread(target=claim, args=(f"w-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 7 and won == [(api.run(run_id)["worker_id"], 1)]


def test_claim_is_answered_again_until_the_first_heartbeat(api: Api, problem: Any) -> None:
    run_id = api.one_run()
    assert api.claim(run_id) == 1
    assert api.claim(run_id) == 1  # the answer was lost on its way
    api.beat(run_id)
    problem(409, "illegal_transition", "POST", f"/runs/{run_id}/claim", json={"worker_id": "w-1"})


def test_stale_attempt_is_refused_and_changes_nothing(api: Api, problem: Any) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    before = api.run(run_id)
    for attempt in (2, 7):
        problem(409, "stale_attempt", "POST", f"/runs/{run_id}/heartbeat", json={"attempt": attempt, "step": 3})
        body = {"attempt": attempt, "outcome": "failed"}
        problem(409, "stale_attempt", "POST", f"/runs/{run_id}/finish", json=body)
    after = api.run(run_id)
    assert {**after, "eta_s": None} == {**before, "eta_s": None}


def test_heartbeat_brings_progress_and_takes_back_the_wish_to_stop(api: Api) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    assert api.beat(run_id, step=2) == {"desired": "run", "last_seq": 0, "earlier": {}}
    run = api.run(run_id)
    assert run["step"] == 2 and run["eta_s"] > 0
    api.call("POST", f"/runs/{run_id}/stop")
    assert api.beat(run_id, step=3)["desired"] == "stop"
    assert api.finish(run_id, "stopped")["state"] == "stopped"


def test_finish_keeps_reason_and_message(api: Api) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    run = api.finish(run_id, "failed", reason="nan_loss", message="the loss was NaN at step 3")
    assert (run["state"], run["reason"], run["message"]) == ("failed", "nan_loss", "the loss was NaN at step 3")
    assert run["finished_at"] is not None and run["eta_s"] is None


def test_finish_twice_is_one_end_but_another_outcome_is_refused(api: Api, problem: Any) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    first = api.finish(run_id, "succeeded")
    assert api.finish(run_id, "succeeded") == first
    body = {"attempt": 1, "outcome": "failed"}
    problem(409, "stale_attempt", "POST", f"/runs/{run_id}/finish", json=body)
    problem(409, "stale_attempt", "POST", f"/runs/{run_id}/heartbeat", json={"attempt": 1, "step": 1})


def test_stop_of_a_queued_run_keeps_workers_off(api: Api, problem: Any) -> None:
    run_id = api.one_run()
    assert api.call("POST", f"/runs/{run_id}/stop")["state"] == "stopped"
    api.call("PUT", "/workers/w-1", json={"hostname": "box"})
    problem(409, "illegal_transition", "POST", f"/runs/{run_id}/claim", json={"worker_id": "w-1"})
    problem(409, "illegal_transition", "POST", f"/runs/{run_id}/stop")


def test_stop_answers_202(api: Api, client: Any) -> None:
    assert client.post(f"/api/v1/runs/{api.one_run()}/stop").status_code == 202


def test_watch_rings_again_for_waiting_runs_only_when_no_ring_is_left(api: Api, app: FastAPI) -> None:
    from server.watch import Watch

    api.launch()
    api.call("PUT", "/workers/w-1", json={"hostname": "box"})
    broker = app.state.broker
    watch = Watch(app.state.life, broker, lease_s=60)
    watch.look()
    assert broker.waiting() == 2
    broker.redis.flushall()
    watch.look()
    assert broker.waiting() == 2
    watch.look(at_start=True)
    assert broker.waiting() == 4


def test_listing_filters_by_experiment_and_state(api: Api) -> None:
    one, other = api.launch(), api.launch()
    done = one["runs"][0]["id"]
    api.claim(done)
    api.finish(done)
    found = api.call("GET", "/runs", params={"experiment_id": one["id"], "state": "succeeded"})["items"]
    assert [run["id"] for run in found] == [done]
    assert len(api.call("GET", "/runs", params={"state": "queued"})["items"]) == 3
    assert len(api.call("GET", "/runs", params={"experiment_id": other["id"]})["items"]) == 2


def test_edit_and_archive_a_run(api: Api, problem: Any) -> None:
    run_id = api.one_run()
    edited = api.call("PATCH", f"/runs/{run_id}", json={"tags": ["odd"], "notes": "look again"})
    assert (edited["tags"], edited["notes"]) == (["odd"], "look again")
    assert api.call("POST", f"/runs/{run_id}/archive")["archived"] is True
    assert api.call("POST", f"/runs/{run_id}/unarchive")["archived"] is False
    problem(422, "bad_spec", "PATCH", f"/runs/{run_id}", json={"tags": [""]})


# --- deleting -------------------------------------------------------------------------------------


def test_delete_needs_an_end_and_frees_the_folder(api: Api, problem: Any, settings: Settings, app: FastAPI) -> None:
    run_id = api.one_run()
    folder = settings.runs / run_id
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("{}\n")
    problem(409, "not_finished", "DELETE", f"/runs/{run_id}")
    api.claim(run_id)
    problem(409, "not_finished", "DELETE", f"/runs/{run_id}")
    assert folder.exists()
    api.finish(run_id)
    api.call("DELETE", f"/runs/{run_id}")
    assert not folder.exists() and row_counts(app)["run"] == 0
    problem(404, "not_found", "DELETE", f"/runs/{run_id}")


def test_delete_removes_a_link_and_not_what_it_points_to(api: Api, settings: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("stays")
    run_id = api.one_run()
    api.call("POST", f"/runs/{run_id}/stop")
    settings.runs.mkdir(parents=True)
    (settings.runs / run_id).symlink_to(outside)
    api.call("DELETE", f"/runs/{run_id}")
    assert not (settings.runs / run_id).is_symlink() and (outside / "precious").read_text() == "stays"


def test_delete_leaves_the_folder_when_the_rows_stay(api: Api, settings: Settings, app: FastAPI) -> None:
    run_id = api.one_run()
    api.call("POST", f"/runs/{run_id}/stop")
    (settings.runs / run_id).mkdir(parents=True)

    def disk_is_full(_session: Session) -> None:
        raise OSError("no space left")

    event.listen(Session, "before_commit", disk_is_full)
    try:
        with pytest.raises(OSError, match="no space left"):
            app.state.store.delete_run(run_id)
    finally:
        event.remove(Session, "before_commit", disk_is_full)
    assert row_counts(app)["run"] == 1 and (settings.runs / run_id).is_dir()


def test_delete_is_done_when_the_folder_cannot_be_removed_and_the_log_names_it(
    api: Api, settings: Settings, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    record = api.launch()
    first, second = (settings.runs / run["id"] for run in record["runs"])
    api.call("POST", f"/experiments/{record['id']}/stop")
    second.mkdir(parents=True)
    first.write_text("a file, which is not what a folder's removal expects")
    api.call("DELETE", f"/experiments/{record['id']}")
    assert row_counts(app)["run"] == 0 and not second.exists()
    (said,) = [line.getMessage() for line in caplog.records if line.name == "server.store"]
    assert str(first) in said and "could not be removed" in said


@pytest.mark.parametrize("name", ["..", "../..", "..%2f..%2fhome", "%2e%2e", "/etc", "run-../x", "run-0000000000"])
def test_delete_refuses_names_that_are_no_run(problem: Any, settings: Settings, name: str, tmp_path: Path) -> None:
    settings.runs.mkdir(parents=True)
    (tmp_path / "beside").write_text("stays")
    problem(404, "not_found", "DELETE", f"/api/v1/runs/{name}")
    assert settings.runs.is_dir() and (tmp_path / "beside").exists()


@pytest.mark.parametrize(
    "name", ["..", "run-../../x", "", "run-", "run-ABCDEFGHIJ", "exp-0123456789", "run-0123456789/"]
)
def test_run_folder_takes_run_ids_only(name: str, tmp_path: Path) -> None:
    from server.folders import run_folder

    with pytest.raises(NotFoundError):
        run_folder(tmp_path, name)


# --- what it printed ------------------------------------------------------------------------------


def test_logs_show_events_and_output_without_control_characters(api: Api, app: FastAPI, settings: Settings) -> None:
    from nat_core.events import LogEvent
    from server.ingest import Batch, store_batches

    run_id = api.one_run()
    api.claim(run_id)
    said = LogEvent(seq=1, time=0, step=0, level="warning", message="slow\x1b[31m disk")
    store_batches(app.state.store, [Batch(run_id, 1, [said])])
    folder = settings.runs / run_id
    folder.mkdir(parents=True)
    (folder / "trainer.log").write_text("Traceback\n\x07boom\n")
    text = app.state.store.log_text(run_id)
    assert text == ("1970-01-01 00:00:00 warning slow\\x1b[31m disk\n--- trainer.log ---\nTraceback\n\\x07boom\n")


def test_log_tail_starts_at_a_whole_line(tmp_path: Path) -> None:
    from server.folders import tail_text

    path = tmp_path / "trainer.log"
    path.write_text("first line\nsecond\nthird\n")
    assert tail_text(path, 1000) == "first line\nsecond\nthird\n"
    assert tail_text(path, 15) == "second\nthird\n"
    assert tail_text(tmp_path / "none", 10) == ""


def test_ids_sort_by_the_time_they_were_made() -> None:
    from server.ids import new_id

    made = [new_id("run") for _ in range(2000)]
    assert made == sorted(made) and len(set(made)) == 2000
    assert all(len(name) == 14 and name.startswith("run-") for name in made)


def test_ids_go_on_upwards_in_a_server_that_is_started_after_the_clock_was_set_back(
    api: Api, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server import ids
    from server.hub import Hub
    from server.store import Store

    before = api.one_run()
    now = ids.time.time()
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(ids, "time", SimpleNamespace(time=lambda: now - 3600))
    assert ids.new_id("run") < before  # as it would be
    monkeypatch.setattr(ids, "_last", 0)
    Store(app.state.settings, Hub()).close()
    assert ids.new_id("run") > before
