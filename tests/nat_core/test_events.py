"""Events survive their lines; metrics are declared and finite."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nat_core.events import METRICS, MetricsEvent, SampleEvent, StateEvent, parse_event


def test_events_survive_their_line() -> None:
    for event in (
        MetricsEvent(seq=1, time=0.5, step=2, values={"reward": 0.25}),
        StateEvent(seq=2, time=1.0, step=2, phase="ended", outcome="failed", reason="oom", message="out of memory"),
        SampleEvent(
            seq=3, time=1.0, step=2, prompt="p", tokens=["a"], keep=[True], inclusion_prob=[0.5], reward=1.0,
            advantage=0.1, answer="a",
        ),
    ):  # fmt: skip
        assert parse_event(event.model_dump_json()) == event


def test_values_that_are_not_finite_become_null() -> None:
    event = MetricsEvent(seq=1, time=0, step=0, values={"loss": float("nan"), "kl": float("inf"), "reward": 1.0})
    assert event.values == {"loss": None, "kl": None, "reward": 1.0}


def test_a_metric_nobody_declared_is_refused() -> None:
    with pytest.raises(ValidationError, match="declare it there"):
        MetricsEvent(seq=1, time=0, step=0, values={"rewrad": 1.0})


def test_every_metric_says_what_it_is() -> None:
    for name, info in METRICS.items():
        assert info.label and info.unit and info.description.endswith("."), name
    assert len({info.label for info in METRICS.values()}) == len(METRICS)
