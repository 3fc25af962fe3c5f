"""Whose a run is: one process of one worker, whatever names meet and whichever call comes late."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastapi import FastAPI

from server.tables import WorkerRow, utc_now
from tests.server.conftest import Api


def register(api: Api, worker_id: str, home: str = "", instance: str = "", gpus: int = 0) -> Any:
    found = [{"index": index, "name": "H200", "memory_gib": 139.0} for index in range(gpus)]
    body = {"hostname": "gpu-worker", "hardware": {"gpus": found}, "home": home, "instance": instance}
    return api.call("PUT", f"/workers/{worker_id}", json=body)


def take(api: Api, worker_id: str, instance: str, free_gpus: int = 0) -> Any:
    return api.call("POST", f"/workers/{worker_id}/claim", json={"instance": instance, "free_gpus": free_gpus})


def test_two_processes_of_one_name_never_have_one_attempt(api: Api, problem: Any) -> None:
    run_id = api.one_run()
    register(api, "w-1", instance="a")
    register(api, "w-1", instance="b")
    assert take(api, "w-1", "a")["run_id"] == run_id  # and waits for its folder, before its first heartbeat
    assert take(api, "w-1", "b") is None
    of_b: Any = {"attempt": 1, "instance": "b"}
    beat = problem(409, "stale_attempt", "POST", f"/runs/{run_id}/heartbeat", json={**of_b, "step": 3})
    assert "of another process" in beat["detail"]
    problem(409, "stale_attempt", "POST", f"/runs/{run_id}/finish", json={**of_b, "outcome": "succeeded"})
    of_a: Any = {"attempt": 1, "instance": "a"}
    assert api.call("POST", f"/runs/{run_id}/heartbeat", json={**of_a, "step": 1})["desired"] == "run"
    ended = {**of_a, "outcome": "succeeded"}
    assert api.call("POST", f"/runs/{run_id}/finish", json=ended)["state"] == "succeeded"
    problem(409, "stale_attempt", "POST", f"/runs/{run_id}/finish", json={**of_b, "outcome": "succeeded"})
    assert api.call("POST", f"/runs/{run_id}/finish", json=ended)["state"] == "succeeded"  # the answer was lost


def test_claim_by_the_run_s_id_is_answered_again_to_the_same_process_only(api: Api, problem: Any) -> None:
    run_id = api.one_run()
    register(api, "w-1")
    claim = {"worker_id": "w-1", "instance": "a"}
    assert [api.call("POST", f"/runs/{run_id}/claim", json=claim)["attempt"] for _ in range(2)] == [1, 1]
    problem(409, "illegal_transition", "POST", f"/runs/{run_id}/claim", json={**claim, "instance": "b"})


def test_a_claim_that_comes_late_strands_no_second_run(api: Api) -> None:
    first, second = api.one_run(), api.one_run()
    register(api, "w-1", instance="a")
    assert take(api, "w-1", "a")["run_id"] == first
    api.call("POST", f"/runs/{first}/heartbeat", json={"attempt": 1, "instance": "a", "step": 0})
    assert take(api, "w-1", "a") is None  # the call before, which its client gave up while it waited
    assert api.run(second)["state"] == "queued"
    register(api, "w-1", instance="b")  # killed and started again: the new process is free
    assert take(api, "w-1", "b")["run_id"] == second


def test_a_name_belongs_to_one_data_folder_as_long_as_its_worker_is_there(api: Api, app: FastAPI, problem: Any) -> None:
    register(api, "gpu-worker-1", home="a", instance="1")
    register(api, "gpu-worker-1", home="a", instance="2")  # started again
    body = {"hostname": "gpu-worker", "home": "b", "instance": "3"}
    assert "NATLAB_HOME" in problem(409, "worker_taken", "PUT", "/workers/gpu-worker-1", json=body)["detail"]
    with app.state.store.db.write() as session:
        row = session.get(WorkerRow, "gpu-worker-1")
        assert (row.home, row.instance) == ("a", "2")
        row.seen_at = utc_now() - timedelta(minutes=5)
    register(api, "gpu-worker-1", home="b", instance="3")


def test_machines_of_one_hostname_share_no_gpus(api: Api, app: FastAPI) -> None:
    def launch() -> str:
        body = {"name": "one", "base": {"steps": 5, "resources": {"gpus": 1}}, "budgets": [{"selector": "full"}]}
        run_id: str = api.call("POST", "/experiments", json=body)["runs"][0]["id"]
        return run_id

    first, second = launch(), launch()
    for home in "ab":
        register(api, f"gpu-worker-{home}-1", home=home, instance=home, gpus=1)
    assert take(api, "gpu-worker-a-1", "a", free_gpus=1)["run_id"] == first
    assert app.state.life.that_can_start() == [second]
