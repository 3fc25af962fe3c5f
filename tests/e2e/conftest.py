"""One stack for all tests that only use it; tests that stop or break a stack start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from client.api import NatLab
from nat_core.spec import DemoArithmetic, ExperimentSpec, demo_experiment
from tests.e2e.support import Command, processes_of, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """`natlab up` on a free port, with a home of its own."""
    with running_stack(tmp_path_factory.mktemp("stack")) as command:
        yield command
    assert processes_of(command.home) == []


@pytest.fixture
def lab(stack: Command) -> Iterator[NatLab]:
    with stack.connect() as client:
        yield client


@pytest.fixture
def small_demo() -> ExperimentSpec:
    """Two budgets of the demo on short chains, two steps each: the least that can be compared, a blink a step."""
    demo = demo_experiment(steps=2)
    base = demo.base.model_copy(
        update={
            "data": DemoArithmetic(min_operations=3, max_operations=4),
            "rollout": demo.base.rollout.model_copy(update={"num_prompts": 8, "num_generations": 4}),
            "evaluation": demo.base.evaluation.model_copy(update={"num_prompts": 8, "greedy": False}),
        }
    )
    return demo.model_copy(update={"base": base, "budgets": demo.budgets[:2]})
