"""Who gets which run: by label and GPUs, by priority, then in the order of the launches."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI

from server.tables import WorkerRow, utc_now
from server.watch import Watch
from tests.server.conftest import Api


def launch(api: Api, priority: int = 0, **resources: Any) -> str:
    """A queued run with these resources; its id."""
    body = {"name": "one", "base": {"steps": 5, "resources": resources}, "budgets": [{"selector": "full"}]}
    run_id: str = api.call("POST", "/experiments", json=body, params={"priority": priority})["runs"][0]["id"]
    return run_id


def register(api: Api, worker_id: str, gpus: int = 0, labels: tuple[str, ...] = (), hostname: str = "box") -> None:
    found = [{"index": index, "name": "H200", "memory_gib": 139.0} for index in range(gpus)]
    body = {"hostname": hostname, "hardware": {"gpus": found}, "labels": list(labels)}
    assert api.call("PUT", f"/workers/{worker_id}", json=body)["labels"] == list(labels)


def take(api: Api, worker_id: str, free_gpus: int = 0) -> Any:
    return api.call("POST", f"/workers/{worker_id}/claim", json={"free_gpus": free_gpus})


@pytest.mark.parametrize(
    ("resources", "gpus", "labels", "free_gpus", "leased"),
    [
        ({}, 0, (), 0, 0),
        ({}, 2, (), 2, 1),  # one where there is any
        ({}, 2, (), 0, None),  # but none is free
        ({"device": "cpu"}, 2, (), 0, 0),
        ({"gpus": 2}, 4, (), 2, 2),
        ({"gpus": 2}, 4, (), 1, None),
        ({"gpus": 1}, 0, (), 0, None),
        ({"gpus": 0}, 4, (), 4, 0),
        ({"worker_label": "big"}, 0, ("small",), 0, None),
        ({"worker_label": "big"}, 0, ("small", "big"), 0, 0),
        ({"worker_label": "big", "gpus": 1}, 1, ("big",), 0, None),
    ],
)
def test_run_goes_to_a_worker_that_fits(
    api: Api, resources: Any, gpus: int, labels: tuple[str, ...], free_gpus: int, leased: int | None
) -> None:
    run_id = launch(api, **resources)
    register(api, "w-1", gpus, labels)
    given = take(api, "w-1", free_gpus)
    if leased is None:
        assert given is None and api.run(run_id)["state"] == "queued"
    else:
        assert (given["run_id"], given["attempt"], given["gpus"]) == (run_id, 1, leased)
        assert api.run(run_id)["worker_id"] == "w-1"


def test_what_does_not_fit_holds_up_nobody(api: Api) -> None:
    launch(api, gpus=8)
    small = launch(api)
    register(api, "w-1")
    assert take(api, "w-1")["run_id"] == small


def test_queue_goes_by_priority_then_by_age(api: Api) -> None:
    old, urgent, new = launch(api), launch(api, priority=5), launch(api)
    assert {run: api.run(run)["queue_position"] for run in (urgent, old, new)} == {urgent: 1, old: 2, new: 3}
    moved = api.call("PATCH", f"/runs/{new}", json={"priority": 9})
    assert (moved["queue_position"], moved["priority"]) == (1, 9)
    for number, expected in enumerate((new, urgent, old)):
        register(api, f"w-{number}")
        assert take(api, f"w-{number}")["run_id"] == expected
    assert api.run(old)["queue_position"] is None


def test_run_that_comes_back_is_the_next_one(api: Api) -> None:
    first, second = launch(api), launch(api)
    register(api, "w-1")
    assert take(api, "w-1")["run_id"] == first
    assert api.finish(first, "lost", reason="killed")["queue_position"] == 1
    (listed,) = api.call("GET", "/experiments", params={"limit": 1})["items"]
    assert [run["queue_position"] for run in listed["runs"]] == [2] and listed["runs"][0]["id"] == second


def test_claim_that_was_not_heard_is_answered_again(api: Api) -> None:
    first, second = launch(api), launch(api)
    register(api, "w-1")
    assert take(api, "w-1") == take(api, "w-1")
    api.beat(first)
    api.finish(first)
    assert take(api, "w-1")["run_id"] == second


def test_unknown_worker_gets_nothing(api: Api, problem: Any) -> None:
    run_id = launch(api)
    problem(404, "not_found", "POST", "/workers/stranger/claim", json={"free_gpus": 0})
    assert api.run(run_id)["state"] == "queued"


@pytest.mark.parametrize("resources", [{"device": "cpu", "gpus": 1}, {"device": "cuda", "gpus": 0}, {"gpus": -1}])
def test_gpus_that_do_not_fit_the_device_are_refused(problem: Any, resources: Any) -> None:
    body = {"name": "one", "base": {"resources": resources}, "budgets": [{"selector": "full"}]}
    assert "resources.gpus" in problem(422, "bad_spec", "POST", "/experiments", json=body)["detail"]


def test_watch_rings_only_where_somebody_idle_fits(api: Api, app: FastAPI) -> None:
    launch(api, gpus=1)
    broker, watch = app.state.broker, Watch(app.state.life, app.state.broker, lease_s=60)
    broker.redis.flushall()

    def rings() -> int:
        watch.look()
        waiting: int = broker.waiting()
        broker.redis.flushall()
        return waiting

    register(api, "cpu")
    assert rings() == 0
    register(api, "gpu-1", gpus=1, hostname="gpu")
    register(api, "gpu-2", gpus=1, hostname="gpu")
    assert rings() == 1
    assert take(api, "gpu-1", 1) is not None
    launch(api, gpus=1)
    broker.redis.flushall()
    assert rings() == 0  # the other worker is idle, but its machine's only GPU is not
    with app.state.store.db.write() as session:
        session.get(WorkerRow, "cpu").seen_at = utc_now() - timedelta(minutes=5)
    launch(api)
    broker.redis.flushall()
    assert rings() == 0  # the one that would do has not been heard of for long
    register(api, "cpu")
    assert rings() == 1


def waits_for(api: Api, run_id: str) -> str | None:
    told: str | None = api.run(run_id)["waits_for"]
    return told


def test_queued_run_tells_why_it_waits(api: Api) -> None:
    run_id = launch(api, gpus=2, worker_label="big")
    assert waits_for(api, run_id) == "No worker is there."
    register(api, "small", gpus=2)
    assert waits_for(api, run_id) == "No worker that is there has what it needs: 2 GPUs, label big."
    register(api, "big", gpus=2, labels=("big",), hostname="other box")
    assert waits_for(api, run_id) == "An idle worker is about to take it."
    second, third = (launch(api, gpus=2, worker_label="big") for _ in range(2))
    assert take(api, "big", 2)["run_id"] == run_id
    assert waits_for(api, second) == "Every worker that fits is busy; it is the next one."
    assert waits_for(api, third) == "Every worker that fits is busy; 1 run is ahead of it."
    assert waits_for(api, run_id) is None


@pytest.mark.parametrize("minutes", [-5, 60])
def test_worker_that_fell_silent_is_none_to_wait_for(api: Api, app: FastAPI, minutes: int) -> None:
    run_id = launch(api)
    register(api, "w-1")
    with app.state.store.db.write() as session:  # or it was heard of before the clock was set back
        session.get(WorkerRow, "w-1").seen_at = utc_now() + timedelta(minutes=minutes)
    assert waits_for(api, run_id) == "No worker is there." and app.state.life.that_can_start() == []
    assert [worker["alive"] for worker in api.call("GET", "/workers")] == [False]
    register(api, "w-1")
    assert waits_for(api, run_id) == "An idle worker is about to take it."
    assert [worker["alive"] for worker in api.call("GET", "/workers")] == [True]
