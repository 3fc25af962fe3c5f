from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from nat_core.answers import Answers
from server.ingest import Batch, store_batches
from server.series import running_sum, thin
from tests.server.conftest import Api
from tests.server.support import evaluation, metrics


@pytest.fixture
def trained(api: Api, app: FastAPI) -> str:
    """A run of three steps: 100 tokens generated in each, 60, 40 and 50 selected."""
    run_id = api.one_run()
    api.claim(run_id)
    events: list[Any] = [evaluation(1, 0, [1, 3])]
    for seq, (step, selected, memory) in enumerate([(1, 60, 0.5), (2, 40, 2.0), (3, 50, 1.5)], start=2):
        values = {
            "tokens__generated": 100,
            "tokens__selected": selected,
            "tokens__trunk": 2 * selected,
            "timing_s__update": 0.25,
            "timing_s__forward_backward": 0.125,
            "timing_s__step": 1.0,
            "perf__peak_memory_gib": memory,
            "reward": step / 10,
        }
        events.append(metrics(seq, step, **values))
    events.append(evaluation(5, 3, [4, 3]))
    store_batches(app.state.store, [Batch(run_id, 1, events)])
    return run_id


def test_series_stand_against_the_step(api: Api, trained: str) -> None:
    series = api.call("GET", f"/runs/{trained}/metrics", params={"keys": "reward,eval/accuracy,kl"})
    assert [(one["key"], one["x"], one["y"]) for one in series] == [
        ("reward", [1, 2, 3], [0.1, 0.2, 0.3]),
        ("eval/accuracy", [0, 3], [0.5, 0.875]),
    ]
    newer = api.call("GET", f"/runs/{trained}/metrics", params={"keys": "reward", "since": 2})
    assert [(one["x"], one["y"]) for one in newer] == [([3], [0.3])]


def test_a_named_set_s_metrics_are_served_like_the_run_s_own(api: Api, app: FastAPI) -> None:
    run_id = api.one_run()
    api.claim(run_id)
    answers = Answers(accuracy=0.25, pass_at_k=0.5, num_prompts=2, num_samples=2, correct=[1, 0], mean_length=3.0)
    events = [
        evaluation(seq, step, [1, 3]).model_copy(update={"sets": {"aime-24": answers}})
        for seq, step in ((1, 0), (2, 5))
    ]
    store_batches(app.state.store, [Batch(run_id, 1, events)])
    keys = "eval/accuracy,eval/aime-24/accuracy,eval/aime-24/pass_at_k,eval/gone/accuracy"
    series = api.call("GET", f"/runs/{run_id}/metrics", params={"keys": keys})
    assert [(one["key"], one["x"], one["y"]) for one in series] == [
        ("eval/accuracy", [0, 5], [0.5, 0.5]),
        ("eval/aime-24/accuracy", [0, 5], [0.25, 0.25]),
        ("eval/aime-24/pass_at_k", [0, 5], [0.5, 0.5]),
    ]
    latest = api.call("GET", f"/runs/{run_id}")["latest"]
    assert latest["eval/aime-24/mean_length"] == 3.0 and latest["eval/accuracy"] == 0.5


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ("step", [0, 3]),
        ("tokens_selected", [0, 150]),
        ("tokens_generated", [0, 300]),
        ("update_s", [0, 0.75]),
        ("wall_s", [0, 4]),
    ],
)
def test_evaluations_stand_against_sums_so_far(api: Api, trained: str, x: str, expected: list[float]) -> None:
    params = {"run_ids": trained, "keys": "eval/accuracy", "x": x}
    assert api.call("GET", "/metrics", params=params)[0]["x"] == expected


def test_batch_holds_several_runs_and_since_keeps_the_sums_whole(api: Api, trained: str, app: FastAPI) -> None:
    other = api.one_run()
    api.claim(other)
    store_batches(app.state.store, [Batch(other, 1, [metrics(1, 1, reward=0.9, tokens__selected=7)])])
    params = {"run_ids": f"{trained},{other}", "keys": "reward", "x": "tokens_selected", "since": 0}
    series = {one["run_id"]: one for one in api.call("GET", "/metrics", params=params)}
    assert series[trained]["x"] == [60, 100, 150] and series[other]["x"] == [7]
    params["since"] = 2
    assert [one["x"] for one in api.call("GET", "/metrics", params=params)] == [[150]]


def test_unknown_metric_axis_and_run_are_refused(problem: Any, trained: str) -> None:
    document = problem(422, "bad_query", "GET", f"/runs/{trained}/metrics?keys=reward,rewardd")
    assert "'rewardd'" in document["detail"]
    problem(422, "bad_query", "GET", f"/runs/{trained}/metrics?keys=x'%20OR%201=1")
    problem(422, "bad_query", "GET", f"/metrics?run_ids={trained}&keys=reward&x=mood")
    problem(404, "not_found", "GET", "/metrics?run_ids=run-0000000000&keys=reward")
    problem(422, "bad_query", "GET", "/metrics?run_ids=" + ",".join(f"r{n}" for n in range(201)) + "&keys=reward")


def test_running_sum_counts_up_to_and_including_the_step() -> None:
    assert running_sum([(1, 2.0), (2, None), (4, 3.0)], [0, 1, 2, 3, 4, 9]) == [0, 2, 2, 2, 5, 5]


def test_thin_keeps_spikes_and_the_last_point() -> None:
    values: list[float | None] = [0.0] * 1000
    values[333], values[700], values[400] = 9.0, -9.0, None
    kept = thin(list(enumerate(values)), 30)
    assert len(kept) <= 30 and {(333, 9.0), (700, -9.0), (999, 0.0)} <= set(kept) and kept == sorted(kept)
    assert thin([(1, None), (2, None), (3, None)], 3) == [(1, None), (2, None), (3, None)]
    assert thin([(step, None) for step in range(10)], 3) == [(9, None)]


def test_outcome_sums_steps_and_takes_the_last_evaluation(app: FastAPI, api: Api, trained: str) -> None:
    experiment_id = api.run(trained)["experiment_id"]
    (outcome,) = app.state.store.outcomes(experiment_id)
    assert (outcome.accuracy, outcome.num_answers, outcome.step) == (0.875, 8, 3)
    assert (outcome.tokens_generated, outcome.tokens_selected, outcome.tokens_trunk) == (300, 150, 300)
    assert (outcome.update_s, outcome.forward_backward_s, outcome.step_s) == (0.75, 0.375, 3)
    assert outcome.peak_memory_gib == 2.0


def test_outcome_of_a_run_that_reported_nothing(app: FastAPI, api: Api) -> None:
    experiment_id = api.run(api.one_run())["experiment_id"]
    (outcome,) = app.state.store.outcomes(experiment_id)
    assert (outcome.accuracy, outcome.num_answers, outcome.tokens_selected) == (None, 0, 0)
    assert outcome.peak_memory_gib is None


def test_archived_runs_are_left_out_of_the_comparison(app: FastAPI, api: Api) -> None:
    record = api.launch()
    first, second = (run["id"] for run in record["runs"])
    api.call("POST", f"/runs/{second}/archive")
    assert [outcome.run_id for outcome in app.state.store.outcomes(record["id"])] == [first]


def test_comparison_reads_savings_from_what_was_reported(app: FastAPI, api: Api) -> None:
    record = api.launch()
    for run, selected in zip(record["runs"], (100, 40), strict=True):
        api.claim(run["id"])
        events: list[Any] = [
            metrics(1, 5, tokens__generated=100, tokens__selected=selected, timing_s__step=1.0),
            evaluation(2, 5, [3, 3]),
        ]
        store_batches(app.state.store, [Batch(run["id"], 1, events)])
        api.finish(run["id"])
    comparison = api.call("GET", f"/experiments/{record['id']}/comparison")
    cells = comparison["cells"]
    assert [cell["num_finished"] for cell in cells] == [1, 1]
    assert cells[1]["savings"]["tokens_selected"]["mean"] == pytest.approx(0.6)
    assert cells[1]["verdict"] == "no claim"  # a single seed
