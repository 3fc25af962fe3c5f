"""`/metrics`: every line as Prometheus reads it, and every number the one that the database or Redis holds."""

from __future__ import annotations

import re

import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nat_core.events import StateEvent
from server.ingest import STREAM, Batch, store_batches
from server.telemetry import Family
from tests.server.conftest import Api
from tests.server.support import entry, metrics

LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.e+]+)')


def scraped(client: TestClient) -> dict[str, float]:
    """By name and labels, every sample; each line must be one that Prometheus reads, under a TYPE of its name."""
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found, kinds = {}, {}
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kinds[name] = line.split()
        elif not line.startswith("# HELP "):
            match = LINE.fullmatch(line)
            assert match is not None, line
            assert match[1] in kinds and (kinds[match[1]] == "counter") == match[1].endswith("_total")
            found[f"{match[1]}{{{match[2]}}}" if match[2] else match[1]] = float(match[3])
    return found


@pytest.fixture
def running(api: Api) -> str:
    run_id = api.one_run()
    api.claim(run_id)
    return run_id


def test_runs_are_counted_by_state_and_every_state_is_there(client: TestClient, api: Api, running: str) -> None:
    api.one_run()
    found = scraped(client)
    assert found['natlab_runs{state="queued"}'] == 1 and found['natlab_runs{state="running"}'] == 1
    assert found['natlab_runs{state="failed"}'] == 0


def test_an_active_run_tells_its_step_its_time_and_its_memory(
    client: TestClient, app: FastAPI, api: Api, running: str
) -> None:
    began = StateEvent(seq=1, time=1.0, step=0, phase="started", hardware={"device": "cuda"})
    values = metrics(2, 3, timing_s__step=1.25, perf__peak_memory_gib=2.0, system__gpu_memory_gib=20.0)
    store_batches(app.state.store, [Batch(running, 1, [began, values])])
    experiment = api.run(running)["experiment_id"]
    labels = f'{{run="{running}",experiment="{experiment}",attempt="1",device="cuda"}}'
    found = scraped(client)
    assert found[f"natlab_run_step{labels}"] == 3
    assert found[f"natlab_run_step_seconds{labels}"] == 1.25
    assert found[f"natlab_run_peak_memory_bytes{labels}"] == 2 * 2**30
    assert found[f"natlab_run_gpu_memory_bytes{labels}"] == 20 * 2**30
    api.finish(running)
    assert not [name for name in scraped(client) if running in name]


def test_tokens_are_counted_once_and_saved_is_live_minus_selected(
    client: TestClient, app: FastAPI, running: str
) -> None:
    first = metrics(1, 1, tokens__generated=100.0, tokens__live=80.0, tokens__selected=30.0)
    second = metrics(2, 2, tokens__generated=50.0, tokens__selected=20.0)  # without live: of all generated
    for events in ([first], [first, second], [first, second]):
        store_batches(app.state.store, [Batch(running, 1, events)])
    found = scraped(client)
    assert found['natlab_tokens_total{kind="generated"}'] == 150
    assert found['natlab_tokens_total{kind="selected"}'] == 50
    assert found['natlab_tokens_total{kind="saved"}'] == 80
    assert (found["natlab_events_stored_total"], found["natlab_steps_total"]) == (2, 2)


def test_the_queue_and_what_waits_in_redis_are_told(client: TestClient, redis_url: str, running: str) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        now = connection.time()[0]
        connection.xadd(STREAM, entry(running, 1, [metrics(1, 1, reward=1.0)]), id=f"{(now - 40) * 1000}-0")
        connection.xadd(STREAM, entry(running, 1, [metrics(2, 2, reward=1.0)]))
    found = scraped(client)
    assert found["natlab_queue_depth"] == 1  # the launch rang, and nobody took it
    assert found["natlab_ingest_pending_entries"] == 2
    assert 39 <= found["natlab_ingest_lag_seconds"] < 70
    assert (found["natlab_redis_up"], found["natlab_ingestor_up"]) == (1, 0)


def test_without_redis_the_rest_is_told(client: TestClient, app: FastAPI, running: str) -> None:
    app.state.broker.redis = redis.Redis(unix_socket_path="/nowhere/v.sock")
    found = scraped(client)
    assert found["natlab_redis_up"] == 0 and "natlab_queue_depth" not in found
    assert found['natlab_runs{state="running"}'] == 1


def test_what_workers_call_themselves_cannot_break_a_line(client: TestClient, api: Api) -> None:
    gpus = [{"index": 0, "name": 'H200"} 1\nnatlab_up 0 \\', "memory_gib": 139.0}, "no gpu", {"name": "no memory"}]
    api.call("PUT", "/workers/w-1", json={"hostname": "box", "hardware": {"gpus": gpus}})
    api.call("PUT", "/workers/w-2", json={"hostname": "box", "hardware": {"gpus": "none"}})
    found = scraped(client)
    (gpu,) = [name for name in found if name.startswith("natlab_gpu_memory_bytes")]
    assert found[gpu] == 139 * 2**30 and r"H200\"} 1\nnatlab_up 0 \\" in gpu
    assert len([name for name in found if name.startswith("natlab_worker_seen_timestamp_seconds")]) == 2


def test_a_value_keeps_its_digits() -> None:
    (_, _, line) = Family("natlab_x", "gauge", "x", [({}, 123456789.125)]).lines()
    assert line == "natlab_x 123456789.125"
