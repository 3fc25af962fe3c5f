"""Places that have nothing to show yet say what to do, with a command to copy."""

from __future__ import annotations

import re
from html import unescape

from fastapi.testclient import TestClient

from nat_core.records import ExperimentRecord
from server.store import Store
from tests.web.building import launch, small_spec, train


def commands(client: TestClient, path: str) -> list[str]:
    """What can be copied on a page."""
    html = client.get(path).text
    assert html.count("data-copy>") == html.count('class="copyable"')
    return [unescape(text) for text in re.findall(r'<div class="copyable"><pre tabindex="0">([^<]*)</pre>', html)]


def without_samples(store: Store) -> ExperimentRecord:
    spec = small_spec()
    resources = spec.base.resources.model_copy(update={"num_logged_samples": 0})
    return launch(store, spec.model_copy(update={"base": spec.base.model_copy(update={"resources": resources})}))


def test_a_fresh_server_says_how_to_launch_and_to_bring_a_worker(client: TestClient) -> None:
    (command,) = commands(client, "/experiments")
    assert command.startswith("curl -X POST http://127.0.0.1:8300/api/v1/experiments")
    (archive,) = commands(client, "/experiments?archived=true")
    assert archive == "curl -X POST http://127.0.0.1:8300/api/v1/experiments/EXPERIMENT/archive"
    assert commands(client, "/workers") == ["python -m worker", "natlab launch experiment.yaml"]


def test_a_run_without_checkpoints_says_how_to_have_one(client: TestClient, store: Store) -> None:
    run = launch(store, small_spec(steps=60)).runs[0]
    assert commands(client, f"/runs/{run.id}/checkpoints") == []  # it waits: there is nothing to save
    train(store, run, upto=3)
    assert commands(client, f"/runs/{run.id}/checkpoints") == [f"natlab pause {run.id}\nnatlab resume {run.id}"]
    assert "every 10 min" in client.get(f"/runs/{run.id}/checkpoints").text


def test_a_run_that_logs_no_samples_says_how_to_have_some(client: TestClient, store: Store) -> None:
    run = without_samples(store).runs[0]
    (command,) = commands(client, f"/runs/{run.id}/tokens")
    assert command == "natlab launch experiment.yaml --set base.resources.num_logged_samples=4"


def test_a_log_without_lines_says_how_to_follow_it(client: TestClient, store: Store) -> None:
    run = launch(store, small_spec()).runs[0]
    assert commands(client, f"/runs/{run.id}/logs") == [f"natlab logs {run.id} --follow"]
