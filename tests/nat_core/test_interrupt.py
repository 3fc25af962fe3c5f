"""A stop that comes in the middle of a step: what is unfinished is thrown away, and nothing of it is missed."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from nat_core.events import AnyEvent, EvaluationEvent, MetricsEvent, StateEvent
from nat_core.interrupt import Interrupted
from nat_core.spec import RunSpec
from nat_core.trainer import Trainer, TrainResult
from tests.nat_core.builders import save_tiny_model
from tests.nat_core.test_trainer import demo_spec, train, weights


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    """Three steps of a tiny model, which earns something by ending soon, and three evaluations."""
    return demo_spec(
        model={"path": str(save_tiny_model(tmp_path_factory.mktemp("model")))},
        reward={"type": "length", "free": 1, "limit": 32},
        budget={"selector": "rpc", "law": "optimal"},
        optim={"learning_rate": 1e-4, "lr_scheduler_type": "cosine"},
        evaluation={"num_prompts": 4, "num_samples": 2, "every": 2},
        resources={"num_threads": 1, "per_device_train_batch_size": 2},
    )


class StopAt:
    """Asks for a stop from the n-th forward pass on."""

    def __init__(self, number: float = float("inf")) -> None:
        self.number = number
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked >= self.number


@pytest.fixture(scope="module")
def straight(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[AnyEvent], int]:
    """The run without a stop: its folder, its events, and how often it could have been stopped."""
    folder, count = tmp_path_factory.mktemp("straight"), StopAt()
    _, events = train(spec, folder, should_stop=count)
    return folder, events, count.asked


def numbers(events: list[AnyEvent]) -> list[object]:
    """What a run reported, without the times."""
    found: list[object] = []
    for event in events:
        if isinstance(event, MetricsEvent):
            found.append((event.step, {k: v for k, v in event.values.items() if not k.startswith(("timing", "perf"))}))
        if isinstance(event, EvaluationEvent):
            found.append((event.step, event.correct))
    return found


# In the first evaluation, in each step's rollout and between its micro-batches, where the second step begins, in the
# second and the last evaluation.
@pytest.mark.parametrize("share", [0.05, 0.25, 0.34, 0.348, 0.4, 0.49, 0.6, 0.75, 0.81, 0.95])
def test_stop_anywhere_and_a_resume_equal_a_straight_run(
    spec: RunSpec, straight: tuple[Path, list[AnyEvent], int], tmp_path: Path, share: float
) -> None:
    folder, expected, passes = straight
    stop = StopAt(int(share * passes))
    stopped, first = train(spec, tmp_path, should_stop=stop)
    assert stopped.outcome == "stopped" and stop.asked == stop.number  # it stopped right where it was asked to
    resumed, second = train(spec, tmp_path, resume=True)
    assert resumed == TrainResult("succeeded", 3)
    start = next(event for event in second if isinstance(event, StateEvent)).step
    assert start == stopped.steps
    kept = [event for event in first if start and event.step <= start]
    assert numbers(kept) + numbers(second) == numbers(expected)
    one, two = weights(folder), weights(tmp_path)
    assert all(one[name].equal(two[name]) for name in one)


def test_step_whose_weights_have_moved_is_finished_first(tmp_path: Path) -> None:
    spec = demo_spec(objective={"num_iterations": 3}, evaluation={"num_prompts": 4, "num_samples": 2, "every": 0})
    _, expected = train(spec, tmp_path / "straight")
    trainer = Trainer(spec, tmp_path / "run", should_stop=lambda: moved)
    moved, tell = False, trainer.interrupt.weights_moved

    def weights_moved() -> None:
        nonlocal moved
        moved = True
        tell()

    trainer.interrupt.weights_moved = weights_moved  # type: ignore[method-assign]
    assert trainer.train() == TrainResult("stopped", 1)
    resumed, second = train(spec, tmp_path / "run", resume=True)
    assert resumed.outcome == "succeeded"
    assert numbers(second) == numbers(expected)[2:]  # all but the first evaluation and the first step


def test_evaluation_that_was_owed_is_not_owed_again(
    spec: RunSpec, straight: tuple[Path, list[AnyEvent], int], tmp_path: Path
) -> None:
    stop = StopAt(int(0.6 * straight[2]))
    assert train(spec, tmp_path, should_stop=stop)[0].steps == 2
    trainer = Trainer(spec, tmp_path, resume=True)
    trainer._step = functools.partial(_interrupted, trainer)  # type: ignore[method-assign]
    assert trainer.train() == TrainResult("stopped", 2)
    _, third = train(spec, tmp_path, resume=True)
    assert [event.step for event in third if isinstance(event, EvaluationEvent)] == [3]


def _interrupted(_trainer: Trainer, _step: int) -> None:
    raise Interrupted
