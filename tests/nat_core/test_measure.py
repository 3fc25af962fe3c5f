"""Rates of a device: what they are worked out from, and what they make of a plan."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from bench.shapes import SHAPES
from nat_core import measure
from nat_core.cost import ModelShape, Rates, plan_step
from nat_core.spec import ModelSpec, parse_run_spec

CPU = torch.device("cpu")
TRUE = Rates(microbatch=2e-3, token=3e-5, attention_flop=4e-11, selected=5e-6)


def test_rates_are_found_again_from_times_that_they_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times as a device with these rates would take them, for a model of two layers' depth and for its first layer."""
    depth = 2
    clock = [0.0]

    def run(policy: Any, _reference: None, step: Any, spec: Any) -> Any:
        passes = accumulate(policy, _reference, step, spec)
        (micro,) = passes.microbatches
        layers = len(policy.model.model.layers)
        attention = sum(policy.token_cost.attention(n) for n in micro.tokens.sequence_lengths)
        clock[0] += 0.5e-3 + 0.75e-3 * layers + TRUE.token / depth * layers * micro.tokens.num_places
        clock[0] += TRUE.attention_flop * float(attention) + TRUE.selected * step.selection.num_kept
        return passes

    accumulate = measure.accumulate_gradient
    monkeypatch.setattr(measure, "accumulate_gradient", run)
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    found = measure.measure_rates(SHAPES["toy"], CPU, ModelSpec())
    for name in ("microbatch", "token", "attention_flop", "selected"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=1e-3)


def test_no_rate_is_below_zero() -> None:
    found = measure._explained([[1.0, 10.0], [1.0, 20.0], [1.0, 40.0]], [3.0, 2.0, 1.0])
    assert min(found) == 0 and max(found) > 0


def test_measuring_prints_rates_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["measure", "demo", "--device", "cpu"])
    measure.main()
    told = json.loads(capsys.readouterr().out)
    assert min(told.values()) >= 0  # a busy machine's noise may hide any one of them
    assert 0 < Rates(**told).seconds(1, 1000, 1e9, 1000) < 60


def test_a_plan_has_seconds_where_rates_are_known() -> None:
    spec = parse_run_spec({"budget": {"selector": "full"}, "resources": {"per_device_train_batch_size": 2}})
    shape, lengths = ModelShape.of_config(SHAPES["toy"].to_dict()), [30, 40, 50, 60]
    assert plan_step(spec, shape, 10, lengths).seconds is None
    plan = plan_step(spec, shape, 10, lengths, TRUE)
    attention = sum(float(shape.token_cost.attention(10 + n - 1)) for n in lengths)
    expected = 2 * 2e-3 + plan.tokens_trunk * 3e-5 + attention * 4e-11 + 180 * 5e-6
    assert plan.seconds == pytest.approx(expected, rel=0.01)
