"""Metrics as a DataFrame, of whichever library is there."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote

import pytest

from client import frames
from client.api import ClientError, NatLab
from tests.client.builders import a_run, an_experiment, with_sets
from tests.client.http import answering

SERIES = [
    {"run_id": "run-0000000001", "key": "reward", "x": [1, 2], "y": [0.5, None]},
    {"run_id": "run-0000000001", "key": "eval/accuracy", "x": [0, 2], "y": [0.25, 0.75]},
    {"run_id": "run-0000000000", "key": "reward", "x": [1], "y": [0.125]},
]
ROUTES: dict[str, Any] = {
    "GET /api/v1/metrics": (200, SERIES),
    "GET /api/v1/experiments/exp-0000000000": (200, an_experiment()),
}
EXPECTED = {
    "run_id": ["run-0000000000", "run-0000000001", "run-0000000001", "run-0000000001"],
    "budget": ["full", "rpc · linear · ½", "rpc · linear · ½", "rpc · linear · ½"],
    "seed": [0, 0, 0, 0],
    "step": [1, 0, 1, 2],
    "eval/accuracy": [None, 0.25, None, 0.75],
    "reward": [0.125, None, 0.5, None],
}


def plain(frame: Any) -> dict[str, list[Any]]:
    """Columns as lists, what is missing as None."""
    columns = frame.to_dict(as_series=False) if hasattr(frame, "to_dicts") else frame.to_dict("list")
    return {
        name: [None if isinstance(value, float) and math.isnan(value) else value for value in values]
        for name, values in columns.items()
    }


@pytest.mark.parametrize("backend", ["pandas", "polars"])
def test_an_experiment_s_metrics_are_a_row_for_each_run_and_step(backend: Any) -> None:
    with answering(ROUTES) as table, NatLab(table.url) as lab:
        frame = lab.metrics("exp-0000000000", backend=backend)
    assert type(frame).__module__.startswith(backend)
    columns = plain(frame)
    assert list(columns) == ["experiment_id", "run_id", "budget", "seed", "step", "eval/accuracy", "reward"]
    assert {name: columns[name] for name in EXPECTED} == EXPECTED
    assert [str(frame[name].dtype).lower() for name in ("step", "seed", "reward")] == ["int64", "int64", "float64"]
    assert "run_ids=run-0000000000%2Crun-0000000001" in table.asked[1].path


def test_records_need_no_second_request_and_each_run_is_asked_for_once() -> None:
    with answering(ROUTES) as table, NatLab(table.url) as lab:
        lab.metrics([an_experiment(), a_run(1)], ["reward"], since=3, max_points=50)
    [asked] = table.asked
    assert asked.path == (
        "/api/v1/metrics?run_ids=run-0000000000%2Crun-0000000001&keys=reward&x=step&since=3&max_points=50"
    )


def test_named_sets_have_columns_of_their_own_and_are_asked_for() -> None:
    experiment = with_sets(an_experiment(), "aime-24")
    told = [*SERIES, {"run_id": "run-0000000000", "key": "eval/aime-24/accuracy", "x": [0], "y": [0.5]}]
    routes = ROUTES | {
        "GET /api/v1/metrics": lambda asked: (200, [one for one in told if quote(one["key"], safe="") in asked.path]),
        "GET /api/v1/experiments/exp-0000000000": (200, experiment),
        "GET /api/v1/runs/run-0000000000": (200, {**a_run(0).model_dump(mode="json"), "spec": {}, "attempts": []}),
    }
    with answering(routes) as table, NatLab(table.url) as lab:
        for of in (experiment, "exp-0000000000", experiment.runs[0]):
            columns = plain(lab.metrics(of))
            assert list(columns)[-3:] == ["eval/accuracy", "reward", "eval/aime-24/accuracy"]
            assert columns["eval/aime-24/accuracy"][0] == 0.5
        asked = [request.path.partition("?")[0] for request in table.asked]
        assert "eval/aime-24/accuracy" not in plain(lab.metrics("run-0000000000"))  # its own spec names none
    assert asked.count("/api/v1/experiments/exp-0000000000") == 2  # once for its id, and once for its run


def test_the_columns_asked_for_are_there_even_without_a_value() -> None:
    with answering(ROUTES) as table, NatLab(table.url) as lab:
        columns = plain(lab.metrics(an_experiment(), ["kl", "reward"], x="wall_s"))
    assert list(columns) == ["experiment_id", "run_id", "budget", "seed", "wall_s", "kl", "reward"]
    assert columns["kl"] == [None] * 4 and columns["wall_s"] == [1.0, 0.0, 1.0, 2.0]


def test_an_experiment_that_reported_nothing_is_an_empty_frame() -> None:
    with answering(ROUTES | {"GET /api/v1/metrics": (200, [])}) as table, NatLab(table.url) as lab:
        columns = plain(lab.metrics(an_experiment(), ["reward"]))
    assert columns["reward"] == [] and list(columns)[-2:] == ["step", "reward"]


def test_many_runs_are_asked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.reported._RUNS_A_REQUEST", 2)
    with answering(ROUTES) as table, NatLab(table.url) as lab:
        lab.metrics([a_run(number) for number in range(5)], ["reward"])
    assert len(table.asked) == 3


@pytest.mark.parametrize(("installed", "expected"), [({"pandas", "polars"}, "pandas"), ({"polars"}, "polars")])
def test_the_library_is_the_one_that_is_installed(
    installed: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "find_spec", lambda name: name if name in installed | {"narwhals"} else None)
    assert frames.library() == expected


def test_without_a_library_it_says_what_to_install_before_it_asks_for_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "find_spec", lambda name: name if name == "narwhals" else None)
    with answering(ROUTES) as table, NatLab(table.url) as lab:
        with pytest.raises(ClientError, match=r"narwhals and pandas or polars; pip install 'natlab\[client\]' pandas"):
            lab.metrics("exp-0000000000")
        with pytest.raises(ClientError, match="backend is 'excel'"):
            lab.metrics("exp-0000000000", backend="excel")  # type: ignore[arg-type]
    assert table.asked == []


def test_what_is_neither_experiment_nor_run_is_named() -> None:
    with answering(ROUTES) as table, NatLab(table.url) as lab, pytest.raises(ClientError, match="'worker-1' is no id"):
        lab.metrics("worker-1")
