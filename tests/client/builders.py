"""Small records, as a server would answer with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from nat_core.comparison import CellComparison, Comparison, Estimate, Verdict
from nat_core.records import ExperimentRecord, RunRecord, RunState, WorkerRecord
from nat_core.spec import DemoArithmetic, EvaluationSpec, ExperimentSpec, FullBudget, QuestionSetSpec, RpcBudget

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_run(number: int = 0, **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "id": f"run-{number:010d}",
        "experiment_id": "exp-0000000000",
        "label": ["full", "rpc · linear · ½"][number % 2],
        "cell": number % 2,
        "seed": 0,
        "state": RunState.QUEUED,
        "attempt": 1,
        "step": 0,
        "steps": 10,
        "created_at": NOW,
    }
    return RunRecord.model_validate(fields | changes)


def an_experiment(*runs: RunRecord, **changes: Any) -> ExperimentRecord:
    fields: dict[str, Any] = {
        "id": "exp-0000000000",
        "name": "half the tokens",
        "state": "running",
        "tags": [],
        "notes": "",
        "archived": False,
        "created_at": NOW,
        "spec": ExperimentSpec(name="half the tokens", budgets=[FullBudget(), RpcBudget()]),
        "runs": list(runs) or [a_run(0), a_run(1)],
    }
    return ExperimentRecord.model_validate(fields | changes)


def with_sets(experiment: ExperimentRecord, *names: str) -> ExperimentRecord:
    """The same, asked named sets of questions besides its own."""
    evaluation = EvaluationSpec(sets={name: QuestionSetSpec(data=DemoArithmetic()) for name in names})
    base = experiment.spec.base.model_copy(update={"evaluation": evaluation})
    return experiment.model_copy(update={"spec": experiment.spec.model_copy(update={"base": base})})


def a_comparison() -> Comparison:
    def exactly(mean: float) -> Estimate:
        return Estimate(mean=mean, num_seeds=1)

    return Comparison(
        baseline=0,
        margin=0.01,
        headline="Half the tokens, no claim yet",
        detail="One seed says nothing about other seeds.",
        tone="mute",
        best_cell=None,
        warnings=["Runs were not on the same hardware."],
        cells=[
            CellComparison(
                cell=0,
                label="full",
                biased=False,
                num_runs=1,
                num_finished=1,
                accuracy=exactly(0.8125),
                verdict=Verdict.BASELINE,
                verdict_text="The baseline.",
                fraction=exactly(1.0),
            ),
            CellComparison(
                cell=1,
                label="truncate · ½",
                biased=True,
                num_runs=1,
                num_finished=1,
                accuracy=exactly(0.79),
                difference=exactly(-0.0225),
                verdict=Verdict.NO_CLAIM,
                verdict_text="A single seed makes no claim.",
                fraction=exactly(0.5),
                savings={"tokens_selected": exactly(0.5), "forward_backward_s": exactly(0.31)},
            ),
        ],
    )


def a_worker(hostname: str, silent_s: float = 0) -> WorkerRecord:
    seen = datetime.now(UTC) - timedelta(seconds=silent_s)
    hardware = {"gpus": [{"index": 0, "name": "H200", "memory_gib": 139.0}]}
    about = {"id": f"{hostname}-1", "hostname": hostname, "hardware": hardware, "registered_at": NOW}
    return WorkerRecord.model_validate({**about, "seen_at": seen, "alive": abs(silent_s) <= 60})
