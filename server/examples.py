"""An example of every operation for the OpenAPI document: what to send, and what comes back.

They are made from the models that the API itself answers with, so that one which no longer fits fails here and
not in somebody's script. The runs and numbers in them are invented; they tell one story: half the tokens, launched,
watched, compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from nat_core.comparison import CellComparison, Comparison, Estimate, Verdict
from nat_core.events import EvaluationEvent, MetricsEvent
from nat_core.records import (
    Assumed,
    AttemptRecord,
    BudgetPlan,
    CheckpointRecord,
    ExperimentPlan,
    ExperimentRecord,
    MetricSeries,
    Page,
    RunDetail,
    RunRecord,
    RunState,
    WorkerRecord,
    actions_of,
)
from nat_core.spec import ExperimentSpec, FullBudget, RpcBudget, RunSpec
from nat_core.version import __version__

EXPERIMENT_ID = "exp-6dk2m0x8qa"
RUN_ID = "run-6dk2m0x8r4"
WORKER_ID = "gpu-box-4711"
INSTANCE = "c05f4a91e7d2"
_NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)

PARAMETERS: dict[str, Any] = {
    "experiment_id": EXPERIMENT_ID,
    "run_id": RUN_ID,
    "worker_id": WORKER_ID,
    "name": "step-00000040",
    "run_ids": RUN_ID,
    "keys": "reward,eval/accuracy",
    "x": "tokens_selected",
    "since": 20,
    "max_points": 500,
    "state": "running",
    "fields": "id,state",
    "cursor": EXPERIMENT_ID,
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


def _spec() -> ExperimentSpec:
    return ExperimentSpec(
        name="Half the tokens", base=RunSpec(steps=60), budgets=[FullBudget(), RpcBudget(fraction=0.5)], tags=["night"]
    )


def _run(state: RunState = RunState.RUNNING, **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "id": RUN_ID,
        "experiment_id": EXPERIMENT_ID,
        "label": "rpc · linear · ½",
        "cell": 1,
        "seed": 0,
        "state": state,
        "attempt": 1,
        "step": 42,
        "steps": 60,
        "worker_id": WORKER_ID,
        "created_at": _NOW,
        "started_at": _NOW + timedelta(seconds=3),
        "heartbeat_at": _NOW + timedelta(seconds=90),
        "eta_s": 38.5,
        "latest": {"reward": 0.61, "eval/accuracy": 0.58},
        "actions": actions_of(state),
    }
    return RunRecord.model_validate(fields | changes)


def _waiting() -> RunRecord:
    return _run(
        RunState.QUEUED,
        attempt=0,
        step=0,
        worker_id=None,
        started_at=None,
        heartbeat_at=None,
        eta_s=None,
        latest={},
        queue_position=1,
    )


def _ended(**changes: Any) -> RunRecord:
    return _run(RunState.SUCCEEDED, eta_s=None, step=60, finished_at=_NOW + timedelta(minutes=3), **changes)


def _experiment(run: RunRecord, **changes: Any) -> ExperimentRecord:
    full = run.model_copy(update={"id": "run-6dk2m0x8r3", "label": "full", "cell": 0})
    fields: dict[str, Any] = {
        "id": EXPERIMENT_ID,
        "name": "Half the tokens",
        "state": "running",
        "tags": ["night"],
        "notes": "",
        "archived": False,
        "created_at": _NOW,
        "spec": _spec(),
        "runs": [full, run],
    }
    return ExperimentRecord.model_validate(fields | changes)


def _detail() -> RunDetail:
    attempt = AttemptRecord(number=1, worker_id=WORKER_ID, claimed_at=_NOW + timedelta(seconds=3), resumed_step=0)
    spec = _spec().expand()[1]
    return RunDetail.model_validate({**_run().model_dump(), "spec": spec, "attempts": [attempt]})


def _comparison() -> Comparison:
    def seeds(mean: float, half_width: float) -> Estimate:
        return Estimate(mean=mean, low=mean - half_width, high=mean + half_width, num_seeds=5)

    full = CellComparison(
        cell=0,
        label="full",
        biased=False,
        num_runs=5,
        num_finished=5,
        accuracy=seeds(0.612, 0.008),
        verdict=Verdict.BASELINE,
        verdict_text="The baseline.",
        fraction=seeds(1.0, 0.0),
    )
    half = CellComparison(
        cell=1,
        label="rpc · linear · ½",
        biased=False,
        num_runs=5,
        num_finished=5,
        accuracy=seeds(0.611, 0.009),
        difference=seeds(-0.001, 0.006),
        verdict=Verdict.NON_INFERIOR,
        verdict_text="Not worse by a point or more.",
        fraction=seeds(0.5, 0.004),
        savings={"tokens_selected": seeds(0.5, 0.004), "forward_backward_s": seeds(0.38, 0.02)},
    )
    return Comparison(
        baseline=0,
        margin=0.01,
        headline="Half the tokens do",
        detail="rpc · linear · ½ is not worse than full by a point or more, at 38% less forward+backward time.",
        tone="good",
        best_cell=1,
        cells=[full, half],
    )


def _plan() -> ExperimentPlan:
    def step(budget: str, selected: float, trunk: float, flops: float, memory_gib: dict[str, float]) -> BudgetPlan:
        total = sum(memory_gib.values())
        return BudgetPlan(
            budget=budget,
            tokens_generated=9728,
            tokens_selected=selected,
            tokens_trunk=trunk,
            flops=flops,
            flops_share=flops / 52.8e9,
            num_microbatches=1,
            largest_microbatch=trunk,
            memory_gib=memory_gib,
            total_gib=total,
            total_share=total / 0.25,
        )

    full = step("full", 9728, 10144, 52.8e9, {"weights": 0.01, "activations": 0.24})
    half = step("rpc · linear · ½", 4864, 5306, 27.5e9, {"weights": 0.01, "activations": 0.13})
    return ExperimentPlan(
        num_runs=2,
        cells=["full", "rpc · linear · ½"],
        seeds=[0],
        steps_total=120,
        tokens_generated_total=1_167_360,
        tokens_selected_total=875_520,
        assumed=Assumed(prompt_tokens=34, completion_tokens=76),
        full=full,
        budgets=[full, half],
    )


def _worker() -> WorkerRecord:
    return WorkerRecord(
        id=WORKER_ID,
        hostname="gpu-box",
        labels=["gpu"],
        hardware={"cores": 32, "memory_gib": 256.0, "gpus": [{"index": 0, "name": "NVIDIA H200", "memory_gib": 141.0}]},
        registered_at=_NOW,
        seen_at=_NOW + timedelta(seconds=90),
        run_id=RUN_ID,
    )


def _events() -> list[Any]:
    metrics = MetricsEvent(seq=1, time=_NOW.timestamp(), step=1, values={"reward": 0.31, "tokens/selected": 4096})
    evaluation = EvaluationEvent(
        seq=2,
        time=_NOW.timestamp() + 2,
        step=1,
        accuracy=0.5,
        num_prompts=2,
        num_samples=4,
        correct=[3, 1],
        mean_length=41.5,
        seconds=1.2,
    )
    return [metrics.model_dump(), evaluation.model_dump()]


def examples() -> dict[str, Example]:
    """By method and path."""
    experiments, experiment = "/api/v1/experiments", "/api/v1/experiments/{experiment_id}"
    runs, run = "/api/v1/runs", "/api/v1/runs/{run_id}"
    spec = {"name": "Half the tokens", "base": {"steps": 60}, "budgets": [{"selector": "full"}, {"selector": "rpc"}]}
    claimed = {"run_id": RUN_ID, "attempt": 1, "gpus": 1, "spec": _spec().expand()[1]}
    registration = {"hostname": "gpu-box", "hardware": as_json(_worker())["hardware"], "labels": ["gpu"]}
    registration |= {"instance": INSTANCE, "home": "4b8e0f27d1aa"}
    series = MetricSeries(run_id=RUN_ID, key="reward", x=[21, 22, 23], y=[0.52, 0.55, None])
    queued, stopping = _waiting(), _run(RunState.STOPPING)
    attempt = {"attempt": 1, "instance": INSTANCE}
    log = "2026-11-23 09:31:02 info    evaluation at step 12: accuracy 41.0%\n"
    news = f'{{"run_id":"{RUN_ID}","experiment_id":"{EXPERIMENT_ID}","step":42}}'
    stream = f"id: 5f0c2a91-1043\nevent: metrics\ndata: {news}\n\n"
    return {
        f"GET {experiments}": Example(Page(items=[_experiment(_run())], next_cursor=EXPERIMENT_ID)),
        f"POST {experiments}": Example(_experiment(queued, state="queued"), spec),
        f"POST {experiments}/plan": Example(
            {"num_runs": 2, "cells": ["full", "rpc · linear · ½"], "seeds": [0], "steps_total": 120}, spec
        ),
        "POST /api/v1/plan": Example(_plan(), spec),
        f"GET {experiment}": Example(_experiment(_run())),
        f"PATCH {experiment}": Example(_experiment(_run(), tags=["night", "kept"]), {"tags": ["night", "kept"]}),
        f"DELETE {experiment}": Example(),
        f"POST {experiment}/archive": Example(_experiment(_ended(), state="succeeded", archived=True)),
        f"POST {experiment}/unarchive": Example(_experiment(_ended(), state="succeeded")),
        f"POST {experiment}/stop": Example(_experiment(stopping)),
        f"GET {experiment}/comparison": Example(_comparison()),
        f"GET {experiment}/report": Example("<!doctype html>…", media_type="text/html"),
        f"GET {runs}": Example(Page(items=[_run()], next_cursor=RUN_ID), parameters={"cursor": RUN_ID}),
        f"GET {run}": Example(_detail()),
        f"PATCH {run}": Example(queued.model_copy(update={"priority": 10}), {"priority": 10}),
        f"DELETE {run}": Example(),
        f"POST {run}/archive": Example(_ended(archived=True)),
        f"POST {run}/unarchive": Example(_ended()),
        f"POST {run}/stop": Example(stopping),
        f"POST {run}/pause": Example(_run(RunState.PAUSING)),
        f"POST {run}/resume": Example(queued),
        f"POST {run}/kill": Example(stopping),
        f"GET {run}/metrics": Example([series], parameters={"keys": "reward"}),
        f"GET {run}/events": Example(_events()),
        f"GET {run}/logs": Example(log, media_type="text/plain"),
        f"POST {run}/claim": Example(claimed, {"worker_id": WORKER_ID, "instance": INSTANCE}),
        f"POST {run}/heartbeat": Example({"desired": "run", "last_seq": 43, "earlier": {}}, {**attempt, "step": 42}),
        f"GET {run}/stored": Example({"attempts": {1: 43}}),
        f"POST {run}/finish": Example(_ended(), {**attempt, "outcome": "succeeded"}),
        f"GET {run}/checkpoints": Example(
            [
                CheckpointRecord(
                    name="step-00000040", step=40, size_bytes=9_912_320, files=["model.safetensors"], written_at=_NOW
                )
            ]
        ),
        f"GET {run}/checkpoints/{{name}}": Example("(a tar archive)", media_type="application/x-tar"),
        "GET /api/v1/metrics": Example([series]),
        "GET /api/v1/workers": Example([_worker()]),
        "PUT /api/v1/workers/{worker_id}": Example(_worker(), registration),
        "POST /api/v1/workers/{worker_id}/claim": Example(claimed, {"free_gpus": 1, "instance": INSTANCE}),
        "GET /api/v1/presets": Example(
            [{"key": "half", "title": "Half", "description": "Full against half the tokens.", "spec": _spec()}]
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
