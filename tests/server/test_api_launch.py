"""Launching once for one key, whatever breaks in between."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server.broker import Broker
from server.errors import BrokerUnavailableError
from tests.server.conftest import Api
from tests.server.support import experiment, row_counts

KEY = {"Idempotency-Key": "my-script-1"}


def test_the_same_launch_again_is_200_and_starts_nothing(client: TestClient, app: FastAPI) -> None:
    first = client.post("/api/v1/experiments", json=experiment(), headers=KEY)
    again = client.post("/api/v1/experiments", json=experiment(), headers=KEY)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert row_counts(app)["experiment"] == 1 and app.state.broker.waiting() == 2


def test_a_body_that_means_the_same_is_the_same(client: TestClient) -> None:
    first = client.post("/api/v1/experiments", json=experiment(), headers=KEY)
    written_out = experiment(seeds=[0], baseline=0)
    assert client.post("/api/v1/experiments", json=written_out, headers=KEY).json() == first.json()


@pytest.mark.parametrize(("query", "fields"), [("", {"name": "another"}), ("?priority=3", {})])
def test_another_launch_under_the_same_key_is_refused(
    client: TestClient, problem: Any, app: FastAPI, query: str, fields: dict[str, str]
) -> None:
    made = client.post("/api/v1/experiments", json=experiment(), headers=KEY).json()["id"]
    document = problem(422, "key_reused", "POST", f"/experiments{query}", json=experiment(**fields), headers=KEY)
    assert "my-script-1" in document["detail"] and made in document["detail"]
    assert row_counts(app)["experiment"] == 1


def test_launches_without_a_key_or_with_others_are_their_own(client: TestClient, app: FastAPI) -> None:
    for headers in ({}, {}, KEY, {"Idempotency-Key": "my-script-2"}):
        assert client.post("/api/v1/experiments", json=experiment(), headers=headers).status_code == 201
    assert row_counts(app)["experiment"] == 4


def test_a_key_whose_launch_failed_is_still_free(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Broker, run_id: str) -> None:
        raise BrokerUnavailableError("gone")

    with monkeypatch.context() as away:
        away.setattr(Broker, "send", broken)
        assert client.post("/api/v1/experiments", json=experiment(), headers=KEY).status_code == 503
    assert row_counts(app)["experiment"] == 0
    assert client.post("/api/v1/experiments", json=experiment(), headers=KEY).status_code == 201


def test_a_launch_that_is_done_is_told_again_while_redis_is_away(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.post("/api/v1/experiments", json=experiment(), headers=KEY)

    def broken(self: Broker) -> None:
        raise BrokerUnavailableError("gone")

    monkeypatch.setattr(Broker, "check", broken)
    assert client.post("/api/v1/experiments", json=experiment(), headers=KEY).json() == first.json()
    assert client.post("/api/v1/experiments", json=experiment()).status_code == 503


def test_a_deleted_experiment_frees_its_key(client: TestClient, api: Api) -> None:
    first = client.post("/api/v1/experiments", json=experiment(), headers=KEY).json()["id"]
    api.call("POST", f"/experiments/{first}/stop")
    api.call("DELETE", f"/experiments/{first}")
    again = client.post("/api/v1/experiments", json=experiment(), headers=KEY)
    assert again.status_code == 201 and again.json()["id"] != first


def test_of_many_at_once_one_launches(client: TestClient, app: FastAPI) -> None:
    answers: list[tuple[int, str]] = []

    def launch() -> None:
        answer = client.post("/api/v1/experiments", json=experiment(), headers=KEY)
        answers.append((answer.status_code, answer.json()["id"]))

    threads = [threading.Thread(target=launch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in answers) == [200] * 7 + [201]
    assert len({experiment_id for _, experiment_id in answers}) == 1
    assert row_counts(app)["experiment"] == 1


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_of_no_length_is_refused(problem: Any, key: str) -> None:
    problem(422, "bad_query", "POST", "/experiments", json=experiment(), headers={"Idempotency-Key": key})
