"""The live stream against the whole stack."""

from __future__ import annotations

import pytest

from client import RunChanged
from client.api import NatLab
from tests.e2e.support import Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SMALL = {
    "steps": 2,
    "data": {"type": "demo_arithmetic", "min_operations": 3, "max_operations": 4},
    "rollout": {"num_prompts": 8, "num_generations": 4, "max_completion_length": 48},
    "evaluation": {"every": 1, "num_prompts": 8, "greedy": False},
}


def test_the_live_stream_tells_of_a_run_from_its_launch_to_its_end(stack: Command, lab: NatLab) -> None:
    changes = lab.live()
    next(changes)  # connected
    experiment = lab.launch({"name": "live", "base": SMALL, "budgets": [{"selector": "full"}]})
    states: list[str] = []
    for change in changes:
        if isinstance(change, RunChanged) and change.run.experiment_id == experiment.id:
            states.append(change.run.state)
            if change.run.state.is_final:
                break
    assert [state for at, state in enumerate(states) if state not in states[:at]] == ["queued", "running", "succeeded"]
