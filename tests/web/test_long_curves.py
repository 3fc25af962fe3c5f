"""Curves of long runs over seeds: what is drawn as their mean is their mean, though lines are thinned to be drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nat_core.events import MetricsEvent
from nat_core.records import ExperimentRecord
from server.ingest import Batch, store_batches
from server.life import RunLife
from server.store import Store
from tests.web.building import HARDWARE, launch, small_spec

STEPS = 3000


def reward(step: int, seed: int) -> float:
    """Seeds rise alike, and swing each in a way of its own: their highest and lowest values are of other steps."""
    return step / STEPS + math.sin(step * (0.7 + 0.3 * seed))


def reported(first: int, last: int, seed: int) -> list[MetricsEvent]:
    return [
        MetricsEvent(
            seq=seq,
            time=float(step),
            step=step,
            values={"reward": reward(step, seed), "tokens/generated": 10.0 + seed},
        )
        for seq, step in enumerate(range(first, last + 1), start=1)
    ]


@pytest.fixture
def long(store: Store) -> ExperimentRecord:
    """Three seeds of a budget, the second of which stopped early, and one run of another."""
    spec = small_spec(seeds=(0, 1, 2), steps=STEPS)
    experiment = launch(store, spec)
    life = RunLife(store)
    store.register_worker("box", "box", HARDWARE)
    for run in experiment.runs:
        if run.cell > 0 and run.seed > 0:
            continue
        life.claim(run.id, "box")
        last = 2000 if run.seed == 1 else STEPS
        store_batches(store, [Batch(run.id, 1, reported(1, last, run.seed))])
        life.finish(run.id, 1, "succeeded")
    return store.get_experiment(experiment.id)


def lines(client: TestClient, experiment: ExperimentRecord, **params: Any) -> dict[str, dict[str, Any]]:
    url = f"/experiments/{experiment.id}/figures.json"
    figure = client.get(url, params={"names": "reward", **params}).json()["figures"]["reward"]["figure"]
    return {trace["name"]: trace for trace in figure["data"] if "fill" not in trace}


def mean_at(step: int, seeds: Sequence[int]) -> float:
    return sum(reward(step, seed) for seed in seeds) / len(seeds)


def test_every_point_of_a_mean_is_the_mean_of_every_seed(client: TestClient, long: ExperimentRecord) -> None:
    mean = lines(client, long)["full, 3 seeds"]
    assert len(mean["x"]) >= 100 and mean["x"][-1] == STEPS
    for step, value in zip(mean["x"], mean["y"], strict=True):
        assert value == pytest.approx(mean_at(step, (0, 1, 2) if step <= 2000 else (0, 2)), abs=1e-4)


def test_a_mean_against_tokens_is_of_one_step_too(client: TestClient, long: ExperimentRecord) -> None:
    mean = lines(client, long, x="tokens_generated")["full, 3 seeds"]
    steps = [round(tokens / 11) for tokens in mean["x"]]  # 10, 11 and 12 tokens a step
    assert len(steps) >= 80 and steps[-1] == STEPS
    bent = {step for step in steps if 2000 < step < 2015}  # one seed stopped at 2,000, within a bucket of the others
    assert len(bent) == 1
    for step, value in zip(steps, mean["y"], strict=True):
        if step not in bent:
            seeds = (0, 1, 2) if step <= 2000 else (0, 2)
            assert value == pytest.approx(mean_at(step, seeds), abs=1e-4)


def test_a_run_alone_keeps_its_highest_and_lowest_values(client: TestClient, long: ExperimentRecord) -> None:
    alone = lines(client, long)["rpc · linear · ½"]
    whole = [reward(step, 0) for step in range(1, STEPS + 1)]
    assert max(alone["y"]) == pytest.approx(max(whole), abs=1e-4)
    assert min(alone["y"]) == pytest.approx(min(whole), abs=1e-4)


def test_runs_side_by_side_have_the_same_mean(client: TestClient, long: ExperimentRecord) -> None:
    picked = ",".join(run.id for run in long.runs if run.cell == 0)
    answer = client.get("/compare/figures.json", params={"runs": picked, "names": "reward"}).json()
    (mean,) = (trace for trace in answer["figures"]["reward"]["figure"]["data"] if "fill" not in trace)
    own = lines(client, long)["full, 3 seeds"]
    assert (mean["x"], mean["y"]) == (own["x"], own["y"])


def test_a_mean_that_is_looked_at_closely_has_every_step(client: TestClient, long: ExperimentRecord) -> None:
    mean = lines(client, long, range="900.5,950")["full, 3 seeds"]
    near = {step: value for step, value in zip(mean["x"], mean["y"], strict=True) if 900.5 <= step <= 950}
    assert list(near) == list(range(901, 951))
    assert all(value == pytest.approx(mean_at(int(step), (0, 1, 2)), abs=1e-4) for step, value in near.items())
    for nonsense in ("", "5", "a,b", "9,2", "nan,1", "1,inf"):
        assert lines(client, long, range=nonsense) == lines(client, long)
