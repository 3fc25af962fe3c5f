"""GRPO steps end to end with vLLM as rollout engine: rollouts, updates, new weights, evaluation, resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nat_core.events import AnyEvent, EvaluationEvent, LogEvent, MetricsEvent, SampleEvent
from nat_core.rollout import vllm
from nat_core.spec import RunSpec
from nat_core.trainer import Trainer, TrainResult
from tests.vllm.builders import vllm_spec


@pytest.fixture(scope="module", autouse=True)
def _one_engine_for_all() -> Iterator[None]:
    """Started by the first run and handed on to the others, which give it their own weights: starting takes seconds."""
    start, close, running = vllm._start, vllm.ColocatedEngine.close, []

    def started(*arguments: Any) -> Any:
        running[:] = running or [start(*arguments)]
        return running[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm, "_start", started)
        patch.setattr(vllm.ColocatedEngine, "close", lambda engine: None)
        yield
    engine = object.__new__(vllm.ColocatedEngine)
    engine._llm = running.pop()
    close(engine)


def train(spec: RunSpec, folder: Path, **arguments: object) -> tuple[TrainResult, list[AnyEvent]]:
    events: list[AnyEvent] = []
    result = Trainer(spec, folder, sink=events.append, **arguments).train()  # type: ignore[arg-type]
    return result, events


def steps(events: list[AnyEvent]) -> list[dict[str, float | None]]:
    return [event.values for event in events if isinstance(event, MetricsEvent) and "reward" in event.values]


@pytest.mark.parametrize("lora", [{}, {"r": 4}], ids=["all weights", "LoRA"])
def test_three_steps_train_with_the_rollouts_logprobs_in_the_correction(lora: dict[str, int], tmp_path: Path) -> None:
    rate = 1e-2 if lora else 1e-3
    spec = vllm_spec(
        model={"lora": lora},
        objective={"rollout_is": "token"},
        budget={"selector": "full"},
        optim={"learning_rate": rate},
    )
    result, events = train(spec, tmp_path)
    assert result == TrainResult("succeeded", 3), result.message
    found = steps(events)
    assert len(found) == 3
    # Every step's rollout came from the weights of that step: an engine left behind would be off by much more.
    for values in found:
        assert values["rollout_is_ratio"] == pytest.approx(1.0, abs=1e-3)
        assert values["grad_norm"] and values["tokens/generated"]
    evaluations = [event for event in events if isinstance(event, EvaluationEvent)]
    assert [event.step for event in evaluations] == [0, 3]
    samples = [event for event in events if isinstance(event, SampleEvent)]
    assert samples and all(len(event.logprobs) == len(event.tokens) for event in samples)
    told = [event.message for event in events if isinstance(event, LogEvent)]
    assert any("vLLM in the trainer's process" in message for message in told)
    assert any("log-probabilities differ from the trainer's by" in message for message in told)


def test_surprisal_of_the_rollout_chooses_tokens(tmp_path: Path) -> None:
    budget = {"selector": "importance", "fraction": 0.5}
    result, events = train(vllm_spec(budget=budget, steps=1), tmp_path)
    assert result.outcome == "succeeded", result.message
    [values] = steps(events)
    assert 0 < values["tokens/selected"] < values["tokens/live"]  # type: ignore[operator]


def test_a_resumed_run_samples_from_the_weights_of_its_checkpoint(tmp_path: Path) -> None:
    told: list[int] = []

    def stop_after_two() -> bool:
        return told.count(1) >= 2

    spec = vllm_spec(objective={"rollout_is": "token"}, budget={"selector": "full"})
    events: list[AnyEvent] = []

    def sink(event: AnyEvent) -> None:
        events.append(event)
        told.append(int(isinstance(event, MetricsEvent)))

    assert Trainer(spec, tmp_path, sink=sink, should_stop=stop_after_two).train().outcome == "stopped"
    result, later = train(spec, tmp_path, resume=True)
    assert result.outcome == "succeeded", result.message
    assert [values["rollout_is_ratio"] for values in steps(later)] == [pytest.approx(1.0, abs=1e-3)]
