from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server.main import create_app
from server.settings import Settings
from tests.server.conftest import Api
from tests.server.support import experiment, row_counts

NOTHING = {"experiment": 0, "run": 0, "worker": 0, "event": 0}


def test_launch_stores_a_queued_run_for_each_budget_and_seed(client: TestClient, api: Api, app: FastAPI) -> None:
    answer = client.post("/api/v1/experiments", json=experiment(seeds=[3, 4], tags=["night"], notes="why"))
    assert answer.status_code == 201
    record = answer.json()
    assert answer.headers["location"] == f"/api/v1/experiments/{record['id']}"
    assert record["state"] == "queued"
    assert record["tags"] == ["night"] and record["notes"] == "why"
    assert [(run["label"], run["cell"], run["seed"], run["state"], run["steps"]) for run in record["runs"]] == [
        ("full", 0, 3, "queued", 5),
        ("rpc · linear · ½", 1, 3, "queued", 5),
        ("full", 0, 4, "queued", 5),
        ("rpc · linear · ½", 1, 4, "queued", 5),
    ]
    assert api.call("GET", f"/experiments/{record['id']}") == record
    detail = api.run(record["runs"][3]["id"])
    assert detail["spec"]["seed"] == 4 and detail["spec"]["budget"]["selector"] == "rpc"
    assert app.state.broker.waiting() == 4


def test_plan_counts_without_storing(api: Api, app: FastAPI) -> None:
    plan = api.call("POST", "/experiments/plan", json=experiment(seeds=[0, 1, 2]))
    assert plan == {"num_runs": 6, "cells": ["full", "rpc · linear · ½"], "seeds": [0, 1, 2], "steps_total": 30}
    assert row_counts(app) == NOTHING


BAD_SPECS: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown field": ({"base": {"stepz": 3}}, "/base/stepz", "not a field"),
    "unknown field on top": ({"budget": 1}, "/budget", "not a field"),
    "budget of nothing": ({"budgets": [{"selector": "urs", "fraction": 0}]}, "/budgets/0/fraction", "greater than 0"),
    "budget above 1": ({"budgets": [{"selector": "rpc", "fraction": 1.5}]}, "/budgets/0/fraction", "1.5"),
    "uniform below half": (
        {"budgets": [{"selector": "rpc", "law": "uniform", "fraction": 0.3}]},
        "/budgets/0",
        "0.5 or more",
    ),
    "no budgets": ({"budgets": []}, "/budgets", "budgets"),
    "baseline past the end": ({"baseline": 2}, "", "baseline is 2"),
    "not a number": ({"base": {"optim": {"learning_rate": "NaN"}}}, "/base/optim/learning_rate", "learning_rate"),
}


@pytest.mark.parametrize("path", ["/experiments", "/experiments/plan"])
@pytest.mark.parametrize("case", BAD_SPECS)
def test_bad_spec_names_the_field_and_stores_nothing(problem: Any, app: FastAPI, case: str, path: str) -> None:
    fields, pointer, words = BAD_SPECS[case]
    document = problem(422, "bad_spec", "POST", path, json=experiment(**fields))
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]
    assert words in document["errors"][0]["detail"]
    assert row_counts(app) == NOTHING and app.state.broker.waiting() == 0


def test_missing_model_is_a_problem_of_its_own(problem: Any, app: FastAPI, tmp_path: Path) -> None:
    base = {"model": {"path": str(tmp_path / "none")}}
    document = problem(422, "model", "POST", "/experiments", json=experiment(base=base))
    assert document["errors"][0]["pointer"] == "/base/model/path"
    assert str(tmp_path / "none") in document["detail"]
    assert row_counts(app) == NOTHING


def test_broken_data_line_is_named_with_its_file(problem: Any, app: FastAPI, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1+1", "answer": "#### 2"}\n{"question": broken\n')
    base = {"data": {"type": "jsonl", "path": str(rows)}}
    document = problem(422, "data", "POST", "/experiments", json=experiment(base=base))
    assert str(rows) in document["detail"] and "line 2" in document["detail"]
    assert row_counts(app) == NOTHING


def test_empty_prompt_set_is_refused(problem: Any, app: FastAPI, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("")
    base = {"data": {"type": "jsonl", "path": str(rows)}}
    problem(422, "data", "POST", "/experiments", json=experiment(base=base))
    assert row_counts(app) == NOTHING


def test_launch_without_redis_is_503_and_stores_nothing(settings: Settings, tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path / "other", redis_url="redis://:secret@127.0.0.1:1/0"))
    client = TestClient(app, base_url="http://127.0.0.1:8300", raise_server_exceptions=False)
    answer = client.post("/api/v1/experiments", json=experiment())
    assert answer.status_code == 503
    assert answer.json()["code"] == "broker_unavailable"
    assert "NATLAB_REDIS_URL" in answer.json()["detail"] and "secret" not in answer.text
    assert row_counts(app) == NOTHING
    app.state.store.close()


def test_launch_rolls_back_when_the_last_ring_fails(app: FastAPI) -> None:
    from nat_core.spec import parse_experiment_spec
    from server.errors import BrokerUnavailableError

    rung: list[str] = []

    def announce(run_id: str) -> None:
        if rung:
            raise BrokerUnavailableError("gone")
        rung.append(run_id)

    with pytest.raises(BrokerUnavailableError):
        app.state.store.create_experiment(parse_experiment_spec(experiment()), announce)
    assert row_counts(app) == NOTHING


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        (b'{"name": ', "application/json", 400, "bad_json"),
        (b"[" * 100_000, "application/json", 400, "bad_json"),
        (b"\xff\xfe", "application/json", 400, "bad_json"),
        (b"name=x", "application/x-www-form-urlencoded", 415, "media_type"),
        (b'{"name": "x"}', "text/plain", 415, "media_type"),
        (b'{"name": "' + b"x" * 1_048_576 + b'"}', "application/json", 413, "too_large"),
        (b"[]", "application/json", 422, "bad_spec"),
        (b"null", "application/json", 422, "bad_spec"),
        (b"", "application/json", 422, "bad_spec"),
        (b'{"name": "\\ud800", "budgets": [{"selector": "full"}]}', "application/json", 422, "bad_spec"),
        (b'{"name": "x", "margin": NaN, "budgets": [{"selector": "full"}]}', "application/json", 422, "bad_spec"),
    ],
)
def test_unreadable_body_is_refused(
    problem: Any, app: FastAPI, body: bytes, media_type: str, status: int, code: str
) -> None:
    problem(status, code, "POST", "/experiments", content=body, headers={"content-type": media_type})
    assert row_counts(app) == NOTHING


def test_body_cap_counts_chunks_without_a_declared_length(problem: Any, app: FastAPI) -> None:
    chunks = (b" " * 65_536 for _ in range(20))
    problem(413, "too_large", "POST", "/experiments", content=chunks, headers={"content-type": "application/json"})


def test_listing_pages_newest_first(api: Api) -> None:
    made = [api.launch(name=f"number {number}")["id"] for number in range(5)]
    first = api.call("GET", "/experiments", params={"limit": 2})
    second = api.call("GET", "/experiments", params={"limit": 2, "cursor": first["next_cursor"]})
    third = api.call("GET", "/experiments", params={"limit": 2, "cursor": second["next_cursor"]})
    shown = [item["id"] for page in (first, second, third) for item in page["items"]]
    assert shown == made[::-1] and third["next_cursor"] is None


def test_bad_query_names_the_parameter(problem: Any) -> None:
    document = problem(422, "bad_query", "GET", "/experiments?limit=1000")
    assert document["errors"][0]["pointer"] == "/limit" and "1000" in document["detail"]


def test_edit_changes_only_what_is_given(api: Api, problem: Any) -> None:
    record = api.launch(tags=["a"], notes="before")
    path = f"/experiments/{record['id']}"
    edited = api.call("PATCH", path, json={"notes": "after"})
    assert (edited["name"], edited["tags"], edited["notes"]) == ("Does half do?", ["a"], "after")
    problem(422, "bad_spec", "PATCH", path, json={"state": "succeeded"})
    problem(422, "bad_spec", "PATCH", path, json={"name": ""})
    problem(422, "bad_spec", "PATCH", path, json={"tags": None})
    assert api.call("GET", path) == edited


def test_archived_experiments_are_listed_apart(api: Api) -> None:
    kept, gone = api.launch()["id"], api.launch()["id"]
    assert api.call("POST", f"/experiments/{gone}/archive")["archived"] is True
    assert [item["id"] for item in api.call("GET", "/experiments")["items"]] == [kept]
    assert [item["id"] for item in api.call("GET", "/experiments?archived=true")["items"]] == [gone]
    assert api.call("POST", f"/experiments/{gone}/unarchive")["archived"] is False


def test_state_follows_the_runs(api: Api) -> None:
    record = api.launch()
    first, second = (run["id"] for run in record["runs"])
    path = f"/experiments/{record['id']}"
    api.claim(first)
    assert api.call("GET", path)["state"] == "running"
    api.finish(first, "succeeded")
    assert api.call("GET", path)["state"] == "running"  # the second still waits
    api.claim(second)
    api.finish(second, "failed", reason="nan_loss")
    assert api.call("GET", path)["state"] == "failed"


def test_stop_ends_waiting_runs_at_once_and_asks_the_others(api: Api, problem: Any) -> None:
    record = api.launch()
    first = record["runs"][0]["id"]
    api.claim(first)
    stopped = api.call("POST", f"/experiments/{record['id']}/stop")
    assert [run["state"] for run in stopped["runs"]] == ["stopping", "stopped"]
    api.finish(first, "stopped")
    problem(409, "illegal_transition", "POST", f"/experiments/{record['id']}/stop")


def test_delete_waits_for_the_end_and_frees_every_folder(
    api: Api, problem: Any, settings: Settings, app: FastAPI
) -> None:
    record = api.launch()
    first, second = (run["id"] for run in record["runs"])
    for run_id in (first, second):
        (settings.runs / run_id / "checkpoints").mkdir(parents=True)
        (settings.runs / run_id / "checkpoints" / "model.safetensors").write_bytes(b"weights")
    api.claim(first)
    api.finish(first)
    problem(409, "not_finished", "DELETE", f"/experiments/{record['id']}")
    assert (settings.runs / first / "checkpoints").exists()  # nothing half-deleted
    api.call("POST", f"/runs/{second}/stop")
    api.call("DELETE", f"/experiments/{record['id']}")
    assert list(settings.runs.iterdir()) == []
    assert row_counts(app) == {**NOTHING, "worker": 1}
    problem(404, "not_found", "GET", f"/experiments/{record['id']}")


def test_presets_can_be_launched_as_they_are(api: Api) -> None:
    demo = next(preset for preset in api.call("GET", "/presets") if preset["key"] == "demo")
    assert api.call("POST", "/experiments/plan", json=demo["spec"])["num_runs"] == 4
