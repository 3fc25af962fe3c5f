"""An example of every operation for the OpenAPI document: what to send, and what comes back.

The answers are the API's own models (`server.example_records`), so that one which no longer fits fails here and not in
somebody's script.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from nat_core.records import MetricSeries, Page, RunState
from nat_core.version import __version__
from server import example_records as story

PARAMETERS: dict[str, Any] = {
    "experiment_id": story.EXPERIMENT_ID,
    "run_id": story.RUN_ID,
    "worker_id": story.WORKER_ID,
    "name": "step-00000040",
    "run_ids": story.RUN_ID,
    "keys": "reward,eval/accuracy",
    "x": "tokens_selected",
    "since": 20,
    "max_points": 500,
    "state": "running",
    "fields": "id,state",
    "cursor": story.EXPERIMENT_ID,
    "limit": 20,
    "archived": False,
    "after_seq": 0,
    "type": ["evaluation"],
    "priority": 10,
    "last-event-id": "5f0c2a91-1042",
    "idempotency-key": "9f1c5d0e-6a57-4c1a-8f0b-4d6f0a3f7c55",
}
"""By a parameter's name, which means the same in every operation."""


@dataclass(frozen=True)
class Example:
    """Of one operation. `answer` is a model or plain data; None where the answer has no body."""

    answer: Any = None
    body: Any = None
    media_type: str = "application/json"
    parameters: Mapping[str, Any] = field(default_factory=dict)


def as_json(value: Any) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def examples() -> dict[str, Example]:
    """By method and path."""
    experiments, experiment = "/api/v1/experiments", "/api/v1/experiments/{experiment_id}"
    runs, run = "/api/v1/runs", "/api/v1/runs/{run_id}"
    spec = {"name": "Half the tokens", "base": {"steps": 60}, "budgets": [{"selector": "full"}, {"selector": "rpc"}]}
    claimed = {"run_id": story.RUN_ID, "attempt": 1, "gpus": 1, "spec": story.run_spec()}
    registration = {"hostname": "gpu-box", "hardware": as_json(story.worker())["hardware"], "labels": ["gpu"]}
    registration |= {"instance": story.INSTANCE, "home": "4b8e0f27d1aa"}
    series = MetricSeries(run_id=story.RUN_ID, key="reward", x=[21, 22, 23], y=[0.52, 0.55, None])
    queued, stopping = story.waiting(), story.run(RunState.STOPPING)
    attempt = {"attempt": 1, "instance": story.INSTANCE}
    log = "2026-11-23 09:31:02 info    evaluation at step 12: accuracy 41.0%\n"
    news = f'{{"run_id":"{story.RUN_ID}","experiment_id":"{story.EXPERIMENT_ID}","step":42}}'
    stream = f"id: 5f0c2a91-1043\nevent: metrics\ndata: {news}\n\n"
    return {
        f"GET {experiments}": Example(Page(items=[story.experiment(story.run())], next_cursor=story.EXPERIMENT_ID)),
        f"POST {experiments}": Example(story.experiment(queued, state="queued"), spec),
        f"POST {experiments}/plan": Example(
            {"num_runs": 2, "cells": ["full", "rpc · linear · ½"], "seeds": [0], "steps_total": 120}, spec
        ),
        "POST /api/v1/plan": Example(story.plan(), spec),
        f"GET {experiment}": Example(story.experiment(story.run())),
        f"PATCH {experiment}": Example(
            story.experiment(story.run(), tags=["night", "kept"]), {"tags": ["night", "kept"]}
        ),
        f"DELETE {experiment}": Example(),
        f"POST {experiment}/archive": Example(story.experiment(story.ended(), state="succeeded", archived=True)),
        f"POST {experiment}/unarchive": Example(story.experiment(story.ended(), state="succeeded")),
        f"POST {experiment}/stop": Example(story.experiment(stopping)),
        f"GET {experiment}/comparison": Example(story.comparison()),
        f"GET {experiment}/report": Example("<!doctype html>…", media_type="text/html"),
        f"GET {runs}": Example(
            Page(items=[story.run()], next_cursor=story.RUN_ID), parameters={"cursor": story.RUN_ID}
        ),
        f"GET {run}": Example(story.detail()),
        f"PATCH {run}": Example(queued.model_copy(update={"priority": 10}), {"priority": 10}),
        f"DELETE {run}": Example(),
        f"POST {run}/archive": Example(story.ended(archived=True)),
        f"POST {run}/unarchive": Example(story.ended()),
        f"POST {run}/stop": Example(stopping),
        f"POST {run}/pause": Example(story.run(RunState.PAUSING)),
        f"POST {run}/resume": Example(queued),
        f"POST {run}/kill": Example(stopping),
        f"GET {run}/metrics": Example([series], parameters={"keys": "reward"}),
        f"GET {run}/events": Example(story.events()),
        f"GET {run}/logs": Example(log, media_type="text/plain"),
        f"POST {run}/claim": Example(claimed, {"worker_id": story.WORKER_ID, "instance": story.INSTANCE}),
        f"POST {run}/heartbeat": Example({"desired": "run", "last_seq": 43, "earlier": {}}, {**attempt, "step": 42}),
        f"GET {run}/stored": Example({"attempts": {1: 43}}),
        f"POST {run}/finish": Example(story.ended(), {**attempt, "outcome": "succeeded"}),
        f"GET {run}/checkpoints": Example([story.checkpoint()]),
        f"GET {run}/checkpoints/{{name}}": Example("(a tar archive)", media_type="application/x-tar"),
        "GET /api/v1/metrics": Example([series]),
        "GET /api/v1/workers": Example([story.worker()]),
        "PUT /api/v1/workers/{worker_id}": Example(story.worker(), registration),
        "POST /api/v1/workers/{worker_id}/claim": Example(claimed, {"free_gpus": 1, "instance": story.INSTANCE}),
        "GET /api/v1/presets": Example(
            [{"key": "half", "title": "Half", "description": "Full against half the tokens.", "spec": story.spec()}]
        ),
        "GET /api/v1/stream": Example(stream, media_type="text/event-stream"),
        "POST /api/v1/gc": Example(
            {
                "experiments": [],
                "checkpoints": ["run-6dk2kb04fx"],
                "folders": ["run-6dk2kz9w1m"],
                "folder_bytes": 19_824_640,
                "database_bytes": 4_096_000,
            },
            {"archived_days": 30, "checkpoints_days": 90, "dry_run": True},
        ),
        "GET /healthz": Example({"status": "ok", "version": __version__}),
        "GET /readyz": Example({"status": "ready", "version": __version__}),
        "GET /metrics": Example('natlab_runs{state="running"} 1\n', media_type="text/plain"),
    }
