"""A run that is lost comes back, a bounded number of times, and every step of it counts once."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event

from nat_core.events import LogEvent, StateEvent
from server.attempts import NOTHING, kept_to
from server.ingest import Batch, parse_entry, store_batches
from server.life import RunLife
from server.settings import Settings
from server.watch import Watch
from tests.server.conftest import Api
from tests.server.support import entry, evaluation, metrics


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def life(app: FastAPI, clock: Clock) -> Iterator[RunLife]:
    """The application's, with a clock that the test sets."""
    before = app.state.life
    app.state.life = RunLife(app.state.store, clock)
    yield app.state.life
    app.state.life = before


def started(seq: int, step: int) -> StateEvent:
    return StateEvent(seq=seq, time=1.0, step=step, phase="started", hardware={"device": "cpu"})


# --- leases ---------------------------------------------------------------------------------------


def test_run_whose_worker_is_silent_waits_again_and_says_why(api: Api, life: RunLife, clock: Clock) -> None:
    silent, waiting = (run["id"] for run in api.launch()["runs"])
    api.claim(silent)
    clock.now += 50
    assert life.end_leases(60) == []
    clock.now += 20
    assert life.end_leases(60) == [silent]
    run = api.run(silent)
    assert (run["state"], run["reason"], run["restarts"]) == ("queued", "worker_lost", 1)
    assert "w-1" in run["message"] and run["finished_at"] is None
    assert api.run(waiting)["restarts"] == 0
    assert life.end_leases(60) == []


def test_end_that_the_disk_does_not_take_ends_no_lease(app: FastAPI, api: Api, life: RunLife, clock: Clock) -> None:
    run_id = api.one_run()
    clock.now += 1000
    api.claim(run_id)

    def is_full(_connection: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    event.listen(app.state.store.db._writer, "commit", is_full)
    try:
        with pytest.raises(OSError, match="No space left"):
            life.finish(run_id, 1, "succeeded")
    finally:
        event.remove(app.state.store.db._writer, "commit", is_full)
    assert life.end_leases(60) == []
    assert api.finish(run_id)["state"] == "succeeded"


def test_heartbeat_keeps_the_lease_whatever_the_time_of_day_says(
    api: Api, life: RunLife, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from server.tables import utc_now

    run_id = api.one_run()
    api.claim(run_id)
    clock.now += 50
    monkeypatch.setattr("server.life.utc_now", lambda: utc_now() - timedelta(hours=1))
    api.beat(run_id)
    clock.now += 50
    assert life.end_leases(60) == []


def test_leases_count_from_the_servers_own_start(api: Api, app: FastAPI, clock: Clock) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    clock.now += 3600
    restarted = RunLife(app.state.store, clock)
    assert restarted.end_leases(60) == []
    clock.now += 61
    assert restarted.end_leases(60) == [run_id]


def test_a_server_that_was_away_itself_takes_no_run_for_it(api: Api, app: FastAPI, life: RunLife, clock: Clock) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    watch = Watch(life, app.state.broker, 60, clock)
    clock.now += 300  # the laptop was closed
    watch.look()
    assert api.run(run_id)["state"] == "running"
    for _ in range(61):
        clock.now += 1
        watch.look()
    assert api.run(run_id)["state"] == "queued"


def test_restarts_are_bounded(api: Api, app: FastAPI, life: RunLife) -> None:
    app.state.store.settings = replace(app.state.store.settings, max_restarts=2)
    run_id = api.one_run()
    for attempt in (1, 2):
        assert api.claim(run_id) == attempt
        assert api.finish(run_id, "lost", attempt=attempt, reason="killed", message="by SIGKILL")["state"] == "queued"
    assert api.claim(run_id) == 3
    run = api.finish(run_id, "lost", attempt=3, reason="killed", message="by SIGKILL")
    assert (run["state"], run["reason"], run["restarts"]) == ("failed", "killed", 2)
    assert "by SIGKILL" in run["message"] and "NATLAB_MAX_RESTARTS is 2" in run["message"]
    attempts = api.run(run_id)["attempts"]
    assert [(one["number"], one["reason"]) for one in attempts] == [(1, "killed"), (2, "killed"), (3, "killed")]


def test_run_that_a_leaving_worker_hands_back_loses_no_restart(api: Api, app: FastAPI) -> None:
    app.state.store.settings = replace(app.state.store.settings, max_restarts=0)
    run_id = api.one_run()
    api.claim(run_id)
    app.state.broker.redis.flushall()
    run = api.finish(run_id, "handed_back", reason="worker_left", message="it had to go")
    assert (run["state"], run["reason"], run["restarts"]) == ("queued", "worker_left", 0)
    assert app.state.broker.waiting() == 1  # and the next worker is called at once
    assert api.finish(run_id, "handed_back", reason="worker_left")["state"] == "queued"  # the answer was lost
    api.claim(run_id, "w-2")
    assert api.run(run_id)["reason"] is None


def test_run_whose_folder_is_in_use_rests_and_others_are_taken_meanwhile(
    api: Api, client: TestClient, life: RunLife, clock: Clock
) -> None:
    in_use = api.one_run()
    api.call("PUT", "/workers/w-1", json={"hostname": "box"})

    def take() -> str | None:
        claimed = api.call("POST", "/workers/w-1/claim", json={})
        return None if claimed is None else str(claimed["run_id"])

    for attempt, rest_s in enumerate((15, 30, 60), 1):
        assert take() == in_use
        run = api.finish(in_use, "handed_back", attempt=attempt, reason="folder_taken", message="it is held")
        assert (run["state"], run["restarts"]) == ("queued", 0)
        clock.now += rest_s - 1
        assert take() is None and life.that_can_start() == []
        told = "Its folder was in use; it is tried again in 1 s."
        assert api.run(in_use)["waits_for"] == told and told in client.get("/workers").text
        clock.now += 2
        assert life.that_can_start() == [in_use]
        assert api.run(in_use)["waits_for"] == "An idle worker is about to take it."
    assert take() == in_use
    api.finish(in_use, "handed_back", attempt=4, reason="folder_taken", message="it is held")
    other = api.one_run()
    assert take() == other
    api.finish(other)
    clock.now += 600
    assert take() == in_use
    api.finish(
        in_use, "lost", attempt=5, reason="killed"
    )  # it could begin: the next one who finds it in use waits anew
    assert take() == in_use


def test_lost_run_that_was_to_stop_is_stopped(api: Api, life: RunLife, clock: Clock) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    api.call("POST", f"/runs/{run_id}/stop")
    clock.now += 61
    assert life.end_leases(60) == [run_id]
    assert (api.run(run_id)["state"], api.run(run_id)["reason"]) == ("stopped", "worker_lost")


def test_stale_attempt_is_refused_after_a_restart(api: Api, life: RunLife, clock: Clock, problem: Any) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    clock.now += 61
    life.end_leases(60)
    beat = {"attempt": 1, "step": 3}
    problem(409, "stale_attempt", "POST", f"/runs/{run_id}/heartbeat", json=beat)
    assert api.claim(run_id, "w-2") == 2
    problem(409, "stale_attempt", "POST", f"/runs/{run_id}/heartbeat", json=beat)
    body = {"attempt": 1, "outcome": "succeeded"}
    problem(409, "stale_attempt", "POST", f"/runs/{run_id}/finish", json=body)
    assert (api.run(run_id)["state"], api.run(run_id)["step"]) == ("running", 0)


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "1001"])
def test_max_restarts_is_a_whole_number(value: str) -> None:
    from server.errors import SettingsError

    env = {"NATLAB_REDIS_URL": "redis://127.0.0.1", "NATLAB_MAX_RESTARTS": value}
    with pytest.raises(SettingsError, match="NATLAB_MAX_RESTARTS is"):
        Settings.from_env(env)


# --- which rows count -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "limits"),
    [
        ({1: (None, [])}, {1: None}),  # nothing has started
        ({1: (0, []), 2: (None, [])}, {1: None, 2: None}),  # the second is only on its way
        ({1: (0, []), 2: (6, [1])}, {1: 6, 2: None}),
        ({1: (0, []), 2: (0, [1])}, {1: NOTHING, 2: None}),  # it found no checkpoint
        ({1: (0, []), 2: (6, [1]), 3: (9, [1, 2])}, {1: 6, 2: 9, 3: None}),
        ({1: (0, []), 2: (6, [1]), 3: (4, [1, 2])}, {1: 4, 2: 4, 3: None}),  # the checkpoint of 6 was damaged
        ({1: (0, []), 2: (None, [1]), 3: (4, [1, 2])}, {1: 4, 2: NOTHING, 3: None}),  # the second never started
        ({1: (0, []), 2: (0, []), 3: (9, [1])}, {1: 9, 2: NOTHING, 3: None}),  # the second was on another machine
        ({1: (0, []), 2: (0, [1]), 3: (3, [1, 2])}, {1: NOTHING, 2: 3, 3: None}),
    ],
)
def test_each_step_counts_in_one_attempt(attempts: dict[int, Any], limits: dict[int, int | None]) -> None:
    assert kept_to(attempts) == limits


@pytest.fixture
def lost(api: Api, app: FastAPI) -> str:
    """A run that was lost in its first attempt with steps 1 to 4 reported, and is in its second."""
    run_id = api.one_run()
    api.claim(run_id)
    steps = [metrics(2 + step, step, reward=step / 10, tokens__selected=10.0) for step in range(1, 5)]
    first = [started(1, 0), evaluation(2, 0, [1, 1]), *steps, evaluation(7, 4, [4, 4])]
    store_batches(app.state.store, [Batch(run_id, 1, first)])
    api.finish(run_id, "lost", reason="killed", message="by SIGKILL")
    api.claim(run_id, "w-2")
    return run_id


def reward(api: Api, run_id: str) -> Any:
    (series,) = api.call("GET", f"/runs/{run_id}/metrics", params={"keys": "reward"})
    return list(zip(series["x"], series["y"], strict=True))


def test_what_was_reported_stays_until_the_next_trainer_starts(api: Api, lost: str) -> None:
    assert [x for x, _ in reward(api, lost)] == [1, 2, 3, 4]
    assert api.run(lost)["step"] == 4


def test_steps_after_the_checkpoint_are_superseded(api: Api, app: FastAPI, lost: str) -> None:
    store = app.state.store
    store_batches(store, [Batch(lost, 2, [started(1, 2)], folder=(1,))])
    run = api.run(lost)
    assert (run["step"], run["resumed_step"]) == (2, 2)
    assert run["latest"]["reward"] == 0.2 and run["latest"]["eval/accuracy"] == 0.25
    again = [metrics(1 + step, 2 + step, reward=0.9, tokens__selected=1.0) for step in (1, 2, 3)]
    store_batches(store, [Batch(lost, 2, again)])
    assert reward(api, lost) == [(1, 0.1), (2, 0.2), (3, 0.9), (4, 0.9), (5, 0.9)]
    outcome = store.outcomes(api.run(lost)["experiment_id"])[0]
    assert outcome.tokens_selected == 2 * 10 + 3 * 1 and outcome.accuracy == 0.25
    events = api.call("GET", f"/runs/{lost}/events", params={"type": "metrics"})
    assert [event["step"] for event in events] == [1, 2, 3, 4, 5]
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    rest = api.call("GET", f"/runs/{lost}/events", params={"type": "metrics", "after_seq": events[2]["seq"]})
    assert rest == events[3:]


def test_a_checkpoint_that_two_attempts_evaluated_counts_once_by_the_newest_answers(
    api: Api, app: FastAPI, lost: str
) -> None:
    store = app.state.store
    store_batches(store, [Batch(lost, 2, [started(1, 2), evaluation(2, 2, [1, 2])], folder=(1,))])
    api.finish(lost, "lost", attempt=2, reason="killed")  # before it could write that this is evaluated
    api.claim(lost, "w-2")
    third = [started(1, 2), evaluation(2, 2, [2, 3]), metrics(3, 3, reward=0.9)]
    store_batches(store, [Batch(lost, 3, third, folder=(1, 2))])
    (accuracy,) = api.call("GET", f"/runs/{lost}/metrics", params={"keys": "eval/accuracy"})
    assert list(zip(accuracy["x"], accuracy["y"], strict=True)) == [(0, 0.25), (2, 0.625)]
    told = api.call("GET", f"/runs/{lost}/events", params={"type": "evaluation"})
    assert [(event["step"], event["correct"]) for event in told] == [(0, [1, 1]), (2, [2, 3])]
    assert reward(api, lost) == [(1, 0.1), (2, 0.2), (3, 0.9)]


def test_answers_of_an_attempt_in_another_folder_replace_none(api: Api, app: FastAPI, lost: str) -> None:
    store = app.state.store
    store_batches(store, [Batch(lost, 2, [started(1, 2), evaluation(2, 2, [1, 2])], folder=(1,))])
    for attempt, events, folder in (
        (3, [started(1, 0), evaluation(2, 0, [0, 0]), evaluation(3, 2, [0, 0])], ()),
        (4, [started(1, 2), metrics(2, 3, reward=0.9)], (1, 2)),
    ):
        api.finish(lost, "lost", attempt=attempt - 1, reason="killed")
        api.claim(lost, "w-2")
        store_batches(store, [Batch(lost, attempt, events, folder=folder)])
    told = api.call("GET", f"/runs/{lost}/events", params={"type": "evaluation"})
    assert [(event["step"], event["correct"]) for event in told] == [(0, [1, 1]), (2, [1, 2])]


def test_restart_from_nothing_supersedes_everything(api: Api, app: FastAPI, lost: str) -> None:
    store_batches(app.state.store, [Batch(lost, 2, [started(1, 0), metrics(2, 1, reward=0.7)])])
    assert reward(api, lost) == [(1, 0.7)]
    run = api.run(lost)
    assert run["step"] == 1 and run["latest"] == {"reward": 0.7}


def test_start_that_is_told_twice_changes_nothing(api: Api, app: FastAPI, lost: str) -> None:
    second = Batch(lost, 2, [started(1, 2), metrics(2, 3, reward=0.9)], folder=(1,))
    store_batches(app.state.store, [second])
    before = {**api.run(lost), "eta_s": None}
    store_batches(app.state.store, [second])
    assert {**api.run(lost), "eta_s": None} == before and len(reward(api, lost)) == 3


def test_events_that_an_earlier_attempt_left_behind_fill_the_gap(api: Api, app: FastAPI) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    store_batches(app.state.store, [Batch(run_id, 1, [started(1, 0), metrics(2, 1, reward=0.1)])])
    api.finish(run_id, "lost", reason="killed")
    api.claim(run_id, "w-2")
    assert api.beat(run_id, attempt=2) == {"desired": "run", "last_seq": 0, "earlier": {"1": 2}}
    store_batches(app.state.store, [Batch(run_id, 2, [started(1, 3), metrics(2, 4, reward=0.4)], folder=(1,))])
    left = [metrics(3, 2, reward=0.2, kl=0.5), metrics(4, 3, reward=0.3), metrics(5, 4, reward=0.0)]
    store_batches(app.state.store, [Batch(run_id, 1, left)])
    assert reward(api, run_id) == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert api.run(run_id)["latest"] == {"reward": 0.4, "kl": 0.5}
    assert api.beat(run_id, attempt=2)["earlier"] == {"1": 5}


def test_stream_entry_names_the_attempts_of_its_folder() -> None:
    fields = entry("run-a", 3, [started(1, 5)])
    assert parse_entry(fields).folder == ()
    assert parse_entry({**fields, "folder": "1,2"}).folder == (1, 2)
    with pytest.raises(ValueError, match="invalid literal"):
        parse_entry({**fields, "folder": "one"})


def test_log_tells_of_every_attempt(api: Api, app: FastAPI, lost: str) -> None:
    said = LogEvent(seq=8, time=0, step=4, message="about to go")
    store_batches(app.state.store, [Batch(lost, 1, [said])])
    text = app.state.store.log_text(lost)
    first, ended, second = text.splitlines()
    assert first.endswith("about to go")
    assert "attempt 1 ended: killed: by SIGKILL" in ended and "attempt 2 was taken by worker w-2" in second


def test_deleting_a_run_deletes_its_attempts(api: Api, app: FastAPI, lost: str) -> None:
    from sqlalchemy import text

    api.finish(lost, "failed", attempt=2, reason="data")
    api.call("DELETE", f"/runs/{lost}")
    with app.state.store.db.read() as session:
        assert session.execute(text("SELECT COUNT(*) FROM attempt")).scalar() == 0
