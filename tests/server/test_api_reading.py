"""Reading less: parts of records, and nothing at all where nothing has changed."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nat_core.events import LogEvent
from server.api.conditional import is_named
from server.ingest import Batch, store_batches
from tests.server.conftest import Api
from tests.server.support import evaluation, metrics


def test_fields_are_all_that_comes(api: Api) -> None:
    record = api.launch()
    run_id = record["runs"][0]["id"]
    assert api.call("GET", f"/runs/{run_id}?fields=id,state") == {"id": run_id, "state": "queued"}
    assert api.call("GET", f"/experiments/{record['id']}?fields=name") == {"name": record["name"]}
    page = api.call("GET", "/experiments?fields=id, tags&limit=1")
    assert page == {"items": [{"id": record["id"], "tags": []}], "next_cursor": None}
    page = api.call("GET", "/runs?fields=seed&limit=1")
    assert page["items"] == [{"seed": 0}] and page["next_cursor"] is not None


def test_fields_may_be_records_themselves(api: Api) -> None:
    record = api.launch()
    part = api.call("GET", f"/experiments/{record['id']}?fields=runs")
    assert part == {"runs": record["runs"]}
    detail = api.run(record["runs"][0]["id"])
    assert api.call("GET", f"/runs/{detail['id']}?fields=spec") == {"spec": detail["spec"]}


@pytest.mark.parametrize("fields", ["colour", "id,colour", "", ",", "id,launch_key"])
def test_a_field_that_there_is_none_of_is_refused_with_the_list(api: Api, problem: Any, fields: str) -> None:
    experiment_id = api.launch()["id"]
    for path in ("/experiments", f"/experiments/{experiment_id}"):
        document = problem(422, "bad_query", "GET", f"{path}?fields={fields}")
        assert "archived" in document["detail"]
    problem(422, "bad_query", "GET", f"/runs?fields={fields}")


def test_what_has_not_changed_is_304_and_empty(client: TestClient, api: Api) -> None:
    experiment_id = api.launch()["id"]
    path = f"/api/v1/experiments/{experiment_id}"
    first = client.get(path)
    tag = {"If-None-Match": first.headers["etag"]}
    again = client.get(path, headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    api.call("PATCH", f"/experiments/{experiment_id}", json={"notes": "changed"})
    changed = client.get(path, headers=tag)
    assert changed.status_code == 200 and changed.json()["notes"] == "changed"
    assert changed.headers["etag"] != first.headers["etag"]


def test_every_answer_that_is_sent_whole_has_a_tag_as_documented(client: TestClient, api: Api) -> None:
    record = api.launch()
    values = {"experiment_id": record["id"], "run_id": record["runs"][0]["id"]}
    tagged = []
    for path, operations in client.get("/api/v1/openapi.json").json()["paths"].items():
        if "304" not in operations.get("get", {}).get("responses", {}):
            continue
        query = {"keys": "reward", "run_ids": values["run_id"]} if path.endswith("metrics") else {}
        answer = client.get(path.format(**values), params=query)
        assert answer.status_code == 200 and answer.headers["cache-control"] in ("private, no-cache", "no-store"), path
        again = client.get(path.format(**values), params=query, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304, path
        tagged.append(path)
    assert len(tagged) >= 11


def test_refusals_and_changes_have_no_tag(client: TestClient, api: Api) -> None:
    assert "etag" not in client.get("/api/v1/runs/run-0").headers
    run_id = api.one_run()
    assert "etag" not in client.patch(f"/api/v1/runs/{run_id}", json={"notes": "x"}).headers


@pytest.mark.parametrize(
    ("header", "named"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ("", False), ('"b"', False), ("a", False)],
)
def test_tags_are_compared_weakly(header: str, named: bool) -> None:
    assert is_named('"a"', header) is named


def test_events_of_several_types_come_in_one_order(api: Api, app: FastAPI) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    said = LogEvent(seq=3, time=1003.0, step=1, message="hello")
    events: list[Any] = [metrics(1, 1, reward=0.5), evaluation(2, 1, [1]), said, metrics(4, 2, reward=0.6)]
    store_batches(app.state.store, [Batch(run_id, 1, events)])

    def types(query: str) -> list[str]:
        return [event["type"] for event in api.call("GET", f"/runs/{run_id}/events{query}")]

    assert types("") == ["metrics", "evaluation", "log", "metrics"]
    assert types("?type=log") == ["log"]
    assert types("?type=log&type=metrics") == ["metrics", "log", "metrics"]
    assert types("?type=log&type=metrics&after_seq=1&limit=1") == ["log"]


def test_an_event_type_that_there_is_none_of_is_refused(api: Api, problem: Any) -> None:
    problem(422, "bad_query", "GET", f"/runs/{api.one_run()}/events?type=log&type=gossip")
