"""The records that the OpenAPI document's examples show: one story of half the tokens, launched, watched, compared.

They are made from the models that the API itself answers with. The runs and numbers in them are invented.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from nat_core.comparison import CellComparison, Comparison, Estimate, Verdict
from nat_core.events import EvaluationEvent, MetricsEvent
from nat_core.records import (
    Assumed,
    AttemptRecord,
    BudgetPlan,
    CheckpointRecord,
    ExperimentPlan,
    ExperimentRecord,
    RunDetail,
    RunRecord,
    RunState,
    WorkerRecord,
    actions_of,
)
from nat_core.spec import ExperimentSpec, FullBudget, RpcBudget, RunSpec

EXPERIMENT_ID = "exp-6dk2m0x8qa"
RUN_ID = "run-6dk2m0x8r4"
WORKER_ID = "gpu-box-4711"
INSTANCE = "c05f4a91e7d2"
NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def spec() -> ExperimentSpec:
    return ExperimentSpec(
        name="Half the tokens", base=RunSpec(steps=60), budgets=[FullBudget(), RpcBudget(fraction=0.5)], tags=["night"]
    )


def run_spec() -> RunSpec:
    """That of the run below, at half the tokens."""
    return spec().expand()[1]


def run(state: RunState = RunState.RUNNING, **changes: Any) -> RunRecord:
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
        "created_at": NOW,
        "started_at": NOW + timedelta(seconds=3),
        "heartbeat_at": NOW + timedelta(seconds=90),
        "eta_s": 38.5,
        "latest": {"reward": 0.61, "eval/accuracy": 0.58},
        "actions": actions_of(state),
    }
    return RunRecord.model_validate(fields | changes)


def waiting() -> RunRecord:
    return run(
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


def ended(**changes: Any) -> RunRecord:
    return run(RunState.SUCCEEDED, eta_s=None, step=60, finished_at=NOW + timedelta(minutes=3), **changes)


def experiment(run: RunRecord, **changes: Any) -> ExperimentRecord:
    full = run.model_copy(update={"id": "run-6dk2m0x8r3", "label": "full", "cell": 0})
    fields: dict[str, Any] = {
        "id": EXPERIMENT_ID,
        "name": "Half the tokens",
        "state": "running",
        "tags": ["night"],
        "notes": "",
        "archived": False,
        "created_at": NOW,
        "spec": spec(),
        "runs": [full, run],
    }
    return ExperimentRecord.model_validate(fields | changes)


def detail() -> RunDetail:
    attempt = AttemptRecord(number=1, worker_id=WORKER_ID, claimed_at=NOW + timedelta(seconds=3), resumed_step=0)
    return RunDetail.model_validate({**run().model_dump(), "spec": run_spec(), "attempts": [attempt]})


def checkpoint() -> CheckpointRecord:
    return CheckpointRecord(
        name="step-00000040", step=40, size_bytes=9_912_320, files=["model.safetensors"], written_at=NOW
    )


def comparison() -> Comparison:
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


def plan() -> ExperimentPlan:
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


def worker() -> WorkerRecord:
    return WorkerRecord(
        id=WORKER_ID,
        hostname="gpu-box",
        labels=["gpu"],
        hardware={"cores": 32, "memory_gib": 256.0, "gpus": [{"index": 0, "name": "NVIDIA H200", "memory_gib": 141.0}]},
        registered_at=NOW,
        seen_at=NOW + timedelta(seconds=90),
        run_id=RUN_ID,
    )


def events() -> list[Any]:
    metrics = MetricsEvent(seq=1, time=NOW.timestamp(), step=1, values={"reward": 0.31, "tokens/selected": 4096})
    evaluation = EvaluationEvent(
        seq=2,
        time=NOW.timestamp() + 2,
        step=1,
        accuracy=0.5,
        num_prompts=2,
        num_samples=4,
        correct=[3, 1],
        mean_length=41.5,
        seconds=1.2,
    )
    return [metrics.model_dump(), evaluation.model_dump()]
