"""Caps: on the length, depth and slowness of bodies, on changes a second, on runs that wait."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from server import limits
from server.__main__ import Server
from server.errors import SlowBodyError, TooManyRequestsError
from server.limits import MAX_BODY_BYTES, MAX_DEPTH, Rate
from server.main import create_app
from server.settings import Settings
from tests.server.support import experiment, row_counts, served

JSON = {"content-type": "application/json"}


def test_a_body_of_100_mb_is_refused_by_its_declared_length_alone(client: TestClient) -> None:
    answer = client.post("/api/v1/experiments", content=b"{}", headers={**JSON, "content-length": str(100 * 2**20)})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_body_of_100_mb_in_chunks_is_refused_after_the_first_that_is_too_much(client: TestClient) -> None:
    sent = 0

    def chunks() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 2**20

    answer = client.post("/api/v1/experiments", content=chunks(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_the_guard_stops_reading_at_the_cap() -> None:
    asked = 0

    async def receive() -> Any:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b" " * 2**20, "more_body": True}

    with pytest.raises(limits.TooLargeError):
        asyncio.run(limits.bounded({"method": "POST", "headers": []}, receive))
    assert asked == MAX_BODY_BYTES // 2**20 + 1


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("place", ["", "/plan"])
def test_a_body_100000_levels_deep_is_refused(client: TestClient, opening: bytes, place: str) -> None:
    answer = client.post(f"/api/v1/experiments{place}", content=opening * 100_000, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_json")
    assert "64 levels" in answer.json()["detail"]


def test_depth_is_counted_outside_of_text_only() -> None:
    limits.check_depth(json.dumps({"notes": '[{"\\' * 500, "list": [[]] * 500}).encode())
    limits.check_depth(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(limits.BadJsonError):
        limits.check_depth(b"[" * (MAX_DEPTH + 1))
    with pytest.raises(limits.BadJsonError):
        limits.check_depth(b'["\\"]",' + b"[" * MAX_DEPTH)


def test_of_a_great_many_faults_only_the_first_are_named(client: TestClient) -> None:
    answer = client.post("/api/v1/experiments/plan", json={str(number): number for number in range(20_000)})
    assert answer.status_code == 422 and len(answer.content) < 50_000
    assert len(answer.json()["errors"]) == 200 and "more)" in answer.json()["detail"]


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_WITHIN_S", 0.02)

    async def never() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(SlowBodyError, match=r"within 0\.02 s"):
        asyncio.run(limits.bounded({"method": "POST", "headers": []}, never))


def test_a_caller_gets_a_burst_and_then_a_rate_and_others_their_own() -> None:
    now = [0.0]
    rate = Rate(per_s=2.0, burst=3, clock=lambda: now[0])
    for _ in range(3):
        rate.take("a")
    with pytest.raises(TooManyRequestsError, match="faster than 2 a second"):
        rate.take("a")
    rate.take("b")
    now[0] += 0.5  # one more by now
    rate.take("a")
    with pytest.raises(TooManyRequestsError) as raised:
        rate.take("a")
    assert raised.value.retry_after_s == 1
    now[0] += 1000  # no more than the burst is saved up
    for _ in range(3):
        rate.take("a")
    with pytest.raises(TooManyRequestsError):
        rate.take("a")


def test_callers_that_were_forgotten_do_not_fill_the_memory() -> None:
    rate = Rate(per_s=1.0, burst=1, clock=lambda: 0.0)
    for number in range(5000):
        rate.take(f"caller {number}")
    assert len(rate._left) <= 1000


def test_changes_that_come_too_fast_are_told_when_to_come_again(tmp_path: Path, redis_url: str) -> None:
    app = create_app(Settings(home=tmp_path, redis_url=redis_url, changes_per_s=0.2))  # a burst of one
    client = TestClient(app, base_url="http://127.0.0.1:8300")
    assert client.post("/api/v1/experiments/plan", json=experiment()).status_code == 200
    refused = client.post("/api/v1/experiments/plan", json=experiment())
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    for _ in range(5):  # reading and what workers tell is not counted
        assert client.get("/api/v1/runs").status_code == 200
        assert client.put("/api/v1/workers/w", json={"hostname": "box"}).status_code == 200


def test_nobody_escapes_the_rate_by_calling_himself_another(tmp_path: Path, redis_url: str) -> None:
    app = create_app(Settings(home=tmp_path, redis_url=redis_url, changes_per_s=0.2))
    with served(app, server=Server(app)) as url, httpx.Client(base_url=url) as caller:
        answers = [
            caller.post("/api/v1/experiments/plan", json=experiment(), headers={"x-forwarded-for": f"10.0.0.{number}"})
            for number in range(3)
        ]
    assert [answer.status_code for answer in answers] == [200, 429, 429]


def test_a_launch_beyond_the_queue_s_length_stores_nothing(tmp_path: Path, redis_url: str) -> None:
    app = create_app(Settings(home=tmp_path, redis_url=redis_url, max_queued=3))
    client = TestClient(app, base_url="http://127.0.0.1:8300")
    assert client.post("/api/v1/experiments", json=experiment()).status_code == 201
    refused = client.post("/api/v1/experiments", json=experiment())
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert row_counts(app)["run"] == 2
    one = client.post("/api/v1/experiments", json=experiment(budgets=[{"selector": "full"}]))
    assert one.status_code == 201
