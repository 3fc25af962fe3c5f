"""The client's scripts, exactly as README and docs have them, against the whole stack."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from client.api import NatLab
from tests.e2e.support import REPOSITORY, Command, stack_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SMALL = {
    "steps": 2,
    "data": {"type": "demo_arithmetic", "min_operations": 3, "max_operations": 4},
    "rollout": {"num_prompts": 8, "num_generations": 4, "max_completion_length": 48},
    "evaluation": {"every": 1, "num_prompts": 8, "greedy": False},
}


def block(file: str, language: str, containing: str) -> str:
    """A document's first code block in a language that contains a text."""
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if containing in block)


def python(stack: Command, tmp_path: Path, script: str) -> str:
    """Run a script as somebody would who copied it; its output."""
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    environment = stack_environment(stack.home, 0, NATLAB_URL=stack.url, PYTHONPATH=str(REPOSITORY))
    argv = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + stack.logs()
    return done.stdout


def test_the_readme_s_client_launches_waits_and_compares(stack: Command, tmp_path: Path) -> None:
    printed = python(stack, tmp_path, block("README.md", "python", "NatLab"))
    assert "reward" in printed and "eval/accuracy" in printed and "run-" in printed


def test_the_guide_s_script_prints_accuracies_headline_and_frame(stack: Command, tmp_path: Path) -> None:
    printed = python(stack, tmp_path, block("docs/python-client.md", "python", "lab.compare"))
    assert re.search(r"^full succeeded 0\.\d+", printed, re.MULTILINE), printed
    assert "tokens/selected" in printed


def test_the_guide_s_means_and_live_events_hold_for_a_finished_experiment(
    stack: Command, lab: NatLab, tmp_path: Path
) -> None:
    experiment = lab.wait(lab.launch({"name": "x", "base": SMALL, "budgets": [{"selector": "full"}]}))
    head = f"""
from client import NatLab, RunChanged
lab = NatLab()
experiment = lab.experiment({experiment.id!r})
run = experiment.runs[0]
"""
    means = python(stack, tmp_path, head + block("docs/python-client.md", "python", "groupby"))
    assert "mean" in means and "full" in means
    following = block("docs/python-client.md", "python", "follow=True").partition("\n\n")[0]
    assert len(python(stack, tmp_path, head + following).splitlines()) >= 2


def test_the_guide_s_async_script_runs_two_side_by_side(stack: Command, lab: NatLab, tmp_path: Path) -> None:
    spec = {"base": SMALL, "budgets": [{"selector": "full"}]}
    python(stack, tmp_path, f"spec = {spec!r}\n" + block("docs/python-client.md", "python", "AsyncNatLab"))
    assert {"first", "second"} <= {experiment.name for experiment in lab.experiments(limit=2)}


def test_the_rest_page_s_requests_launch_once(stack: Command, lab: NatLab) -> None:
    commands = block("docs/rest.md", "sh", "Idempotency-Key").replace("http://127.0.0.1:8300", stack.url)
    before = len(lab.experiments())
    for _ in range(2):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            env=stack_environment(stack.home, 0),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    assert len(lab.experiments()) == before + 1
    lab.wait(lab.stop_experiment(lab.experiments(limit=1)[0]))


def test_the_live_stream_tells_of_a_run_from_its_launch_to_its_end(stack: Command, lab: NatLab) -> None:
    from client import RunChanged

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
