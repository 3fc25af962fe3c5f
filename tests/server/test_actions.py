"""Pause, resume, stop and kill: what each does to a run in each state, and what its worker hears."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from nat_core.records import ACTIONS, TRANSITIONS, RunState
from server.leases import KILL_S
from server.life import RunLife
from tests.server.conftest import Api
from tests.server.test_restarts import Clock, clock, life  # noqa: F401  (fixtures)


def run_in(api: Api, state: RunState) -> str:
    """A run that was brought into a state by what brings runs there; its id."""
    run_id = api.one_run()
    if state not in (RunState.QUEUED, RunState.PAUSED):
        api.claim(run_id)
    how: dict[RunState, Any] = {
        RunState.PAUSED: lambda: act(api, run_id, "pause"),
        RunState.PAUSING: lambda: act(api, run_id, "pause"),
        RunState.STOPPING: lambda: act(api, run_id, "stop"),
        RunState.STOPPED: lambda: api.finish(run_id, "stopped"),
        RunState.SUCCEEDED: lambda: api.finish(run_id, "succeeded"),
        RunState.FAILED: lambda: api.finish(run_id, "failed"),
    }
    how.get(state, lambda: None)()
    assert api.run(run_id)["state"] == state
    return run_id


def act(api: Api, run_id: str, action: str) -> Any:
    return api.call("POST", f"/runs/{run_id}/{action}")


@pytest.mark.parametrize("state", list(RunState))
@pytest.mark.parametrize("action", list(ACTIONS))
def test_action_does_what_the_table_says(api: Api, problem: Any, action: Any, state: RunState) -> None:
    run_id = run_in(api, state)
    becomes = ACTIONS[action].get(state)
    offered = api.run(run_id)["actions"]
    assert (action in offered) == (becomes is not None)
    if becomes is None:
        problem(409, "illegal_transition", "POST", f"/runs/{run_id}/{action}")
        assert api.run(run_id)["state"] == state
    else:
        assert act(api, run_id, action)["state"] == becomes


def test_every_action_is_a_legal_transition() -> None:
    for ways in ACTIONS.values():
        for now, becomes in ways.items():
            assert becomes == now or becomes in TRANSITIONS[now]


def test_pause_frees_the_worker_and_resume_goes_on_without_spending_a_restart(api: Api, app: FastAPI) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    act(api, run_id, "pause")
    assert api.beat(run_id, step=2)["desired"] == "pause"
    paused = api.finish(run_id, "stopped")
    assert (paused["state"], paused["reason"], paused["finished_at"]) == ("paused", None, None)
    assert api.finish(run_id, "stopped")["state"] == "paused"  # the answer was lost on its way
    assert api.call("GET", "/workers")[0]["run_id"] is None
    waiting = app.state.broker.waiting()
    resumed = act(api, run_id, "resume")
    assert (resumed["state"], resumed["restarts"], app.state.broker.waiting()) == ("queued", 0, waiting + 1)
    assert api.claim(run_id, "w-2") == 2


@pytest.mark.parametrize(("outcome", "state"), [("lost", "paused"), ("handed_back", "paused"), ("failed", "failed")])
def test_pause_that_ends_otherwise(api: Api, outcome: str, state: str) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    act(api, run_id, "pause")
    run = api.finish(run_id, outcome, reason="killed", message="by SIGKILL")
    assert (run["state"], run["reason"], run["restarts"]) == (state, "killed", 0)


def test_kill_reaches_the_worker_and_ends_as_failed(api: Api) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    assert act(api, run_id, "kill")["state"] == "stopping"
    assert api.beat(run_id)["desired"] == "kill"
    run = api.finish(run_id, "lost", reason="killed", message="the trainer was ended by SIGKILL")
    assert (run["state"], run["reason"], run["restarts"]) == ("failed", "killed", 0)


def test_kill_of_a_waiting_run_leaves_what_is_known_of_its_attempts(api: Api) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    api.finish(run_id, "lost", reason="hung", message="no progress")
    run = act(api, run_id, "kill")
    assert (run["state"], run["reason"]) == ("failed", "killed")
    assert [attempt["reason"] for attempt in api.run(run_id)["attempts"]] == ["hung"]


def test_killed_run_ends_in_time_whatever_its_worker_does(
    api: Api,
    life: RunLife,  # noqa: F811
    clock: Clock,  # noqa: F811
    problem: Any,
) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    act(api, run_id, "stop")
    act(api, run_id, "kill")
    for _ in range(int(KILL_S)):
        clock.now += 1
        api.beat(run_id)
        act(api, run_id, "kill")  # asking again gives no more time
        assert life.end_leases(60) == []
    clock.now += 1
    assert life.end_leases(60) == [run_id]
    assert (api.run(run_id)["state"], api.run(run_id)["reason"]) == ("failed", "killed")
    problem(409, "stale_attempt", "POST", f"/runs/{run_id}/heartbeat", json={"attempt": 1, "step": 0})


def test_killed_run_ends_in_time_after_the_server_was_started_again(
    api: Api,
    app: FastAPI,
    clock: Clock,  # noqa: F811
) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    act(api, run_id, "kill")
    restarted = RunLife(app.state.store, clock)
    assert restarted.end_leases(60) == []
    clock.now += KILL_S + 1
    assert restarted.end_leases(60) == [run_id]


def test_success_that_was_on_its_way_is_not_killed(api: Api) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    act(api, run_id, "kill")
    run = api.finish(run_id, "succeeded")
    assert (run["state"], run["reason"]) == ("succeeded", None)


def test_experiment_is_paused_when_only_paused_runs_are_left(api: Api) -> None:
    record = api.launch()
    first, second = (run["id"] for run in record["runs"])
    path = f"/experiments/{record['id']}"
    act(api, first, "pause")
    assert api.call("GET", path)["state"] == "running"
    act(api, second, "stop")
    assert api.call("GET", path)["state"] == "paused"
    assert {run["state"] for run in api.call("POST", f"{path}/stop")["runs"]} == {"stopped"}
