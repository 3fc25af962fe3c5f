"""`POST /plan`: a dry run that checks, reckons and stores nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server.main import create_app
from server.rows import run_row
from server.settings import Settings
from tests.server.conftest import Api
from tests.server.support import experiment, row_counts
from tests.web.building import finished_experiment, small_spec


def test_a_plan_tells_runs_costs_and_room_and_stores_nothing(api: Api, app: FastAPI) -> None:
    hardware = {"memory_gib": 0.001, "gpus": []}
    api.call("PUT", "/workers/w-1", json={"hostname": "box", "hardware": hardware})
    before = row_counts(app)
    plan = api.call("POST", "/plan", json=experiment(seeds=[0, 1]))
    assert row_counts(app) == before
    assert (plan["num_runs"], plan["steps_total"], plan["seeds"]) == (4, 20, [0, 1])
    full, half = plan["budgets"]
    assert plan["full"] == full and full["budget"] == "full" and not full["fits"]
    assert half["tokens_selected"] == pytest.approx(full["tokens_selected"] / 2)
    assert plan["room"] == {"worker_id": "w-1", "on_gpu": False, "memory_gib": 0.001, "refusal": ""}
    assert "no budget fits worker w-1's memory" in plan["warnings"][0]


def test_lengths_can_be_given_and_stand_in_the_plan(api: Api) -> None:
    plan = api.call("POST", "/plan?prompt_tokens=7&completion_tokens=11&worker_id=none", json=experiment())
    assert plan["assumed"] == {"prompt_tokens": 7, "completion_tokens": 11}
    assert plan["room"] is None and plan["full"]["fits"] is None
    assert plan["full"]["tokens_generated"] == pytest.approx(16 * 8 * 11, rel=0.05)


def test_earlier_runs_of_the_model_on_the_worker_give_a_plan_its_seconds(
    api: Api, app: FastAPI, client: TestClient
) -> None:
    assert api.call("POST", "/plan", json=experiment())["speed"] is None
    finished_experiment(app.state.store, small_spec(steps=3))
    plan = api.call("POST", "/plan", json=experiment())
    speed, (full, half) = plan["speed"], plan["budgets"]
    outcomes = app.state.store.outcomes(app.state.store.list_experiments().items[0].id)
    seconds = sum(run.forward_backward_s for run in outcomes)
    assert speed == {"flops_per_s": pytest.approx(sum(run.flops for run in outcomes) / seconds), "num_runs": 3}
    assert full["seconds"] == pytest.approx(full["flops"] / speed["flops_per_s"])
    assert half["seconds_share"] == pytest.approx(half["flops_share"])
    asked = {"document": experiment()}
    fragment = client.post("/experiments/draft/plan", json=asked).text
    assert "reckoned from 3 earlier runs" in fragment and ">Time<" in fragment

    # Neither another precision nor more devices nor another worker make the same speed.
    several = experiment(base={"resources": {"gpus": 2}})
    assert api.call("POST", "/plan?worker_id=w-1", json=several)["speed"] is None
    other = experiment(base={"model": {"dtype": "bfloat16"}})
    assert api.call("POST", "/plan", json=other)["speed"] is None
    assert api.call("POST", "/plan?worker_id=none", json=experiment())["speed"] is None


def test_a_run_beside_others_tells_no_speed(api: Api, app: FastAPI) -> None:
    record = finished_experiment(app.state.store, small_spec(steps=2))
    with app.state.store.change() as (session, _):
        for run in record.runs:
            row = run_row(session, run.id)
            row.hardware = {**(row.hardware or {}), "neighbours": 1}
    assert api.call("POST", "/plan", json=experiment())["speed"] is None


def test_a_model_whose_sizes_are_not_known_has_a_plan_without_costs(api: Api) -> None:
    plan = api.call("POST", "/plan", json=experiment(base={"model": {"path": "nobody/knows"}, "steps": 5}))
    assert plan["budgets"] == [] and plan["full"] is None and plan["num_runs"] == 2
    assert "nobody/knows" in plan["unknown"]


@pytest.mark.parametrize("query", ["prompt_tokens=0", "completion_tokens=many", "prompt_tokens=1e9"])
def test_a_length_that_is_none_is_refused(problem: Callable[..., Any], query: str) -> None:
    problem(422, "bad_query", "POST", f"/plan?{query}", json=experiment())


def test_a_model_elsewhere_is_neither_read_nor_told_of(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "data").mkdir()
    settings = Settings(home=tmp_path / "home", redis_url=redis_url, allowed_roots=(tmp_path / "data",))
    client = TestClient(create_app(settings), base_url="http://127.0.0.1:8300")
    document = experiment(base={"model": {"path": "/etc"}})
    refused = client.post("/api/v1/plan", json=document)
    assert refused.status_code == 422 and "NATLAB_ALLOWED_ROOTS" in refused.text
    fragment = client.post("/experiments/draft/plan", json={"document": document})
    assert fragment.status_code == 200 and "NATLAB_ALLOWED_ROOTS" in fragment.text and "<table" not in fragment.text


def test_the_launch_page_s_plan_is_a_fragment_of_it(client: TestClient) -> None:
    asked = {"document": experiment(), "prompt_tokens": 5}
    answer = client.post("/experiments/draft/plan", json=asked)
    assert answer.headers["cache-control"] == "no-store" and answer.headers["content-type"].startswith("text/html")
    assert 'data-testid="plan-table"' in answer.text and "<html" not in answer.text
    wrong = client.post("/experiments/draft/plan", json={**asked, "completion_tokens": "many"})
    assert wrong.status_code == 422 and wrong.json()["errors"][0]["pointer"] == "/completion_tokens"
