"""What `natlab train` makes of a trainer's events, and the trainer itself for a few steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.train import EventTail, RunReport
from nat_core.answers import Answers
from nat_core.events import EvaluationEvent, MetricsEvent, StateEvent, parse_event
from tests.e2e.support import REPOSITORY, processes_of

TINY = ["--set", "evaluation.num_prompts=8", "--set", "rollout.num_prompts=4", "--set", "rollout.num_generations=4"]


def metrics(seq: int, step: int, **values: float) -> MetricsEvent:
    named = {key.replace("__", "/"): value for key, value in values.items()}
    return MetricsEvent(seq=seq, time=0, step=step, values=named)


def test_tail_leaves_an_unfinished_line_for_the_next_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []
    first, second = metrics(1, 1, reward=0.5).model_dump_json(), metrics(2, 2, reward=0.75).model_dump_json()
    path.write_text(first + "\n" + second[:20])
    assert [event.seq for event in tail.read()] == [1]
    assert tail.read() == []
    with path.open("a") as file:
        file.write(second[20:] + "\n")
    assert [event.seq for event in tail.read()] == [2]


def test_summary_counts_tokens_over_all_steps_and_shows_the_last_accuracy(tmp_path: Path) -> None:
    report = RunReport()
    for step, accuracy in ((0, 0.25), (2, 0.5)):
        report.add(
            EvaluationEvent(
                seq=1,
                time=0,
                step=step,
                accuracy=accuracy,
                num_prompts=1,
                num_samples=4,
                correct=[1],
                mean_length=3,
                seconds=1,
            )
        )
    report.add(metrics(2, 1, tokens__generated=1000, tokens__selected=400))
    report.add(metrics(3, 2, tokens__generated=3000, tokens__selected=1600))
    report.add(StateEvent(seq=4, time=0, step=2, phase="ended", outcome="succeeded"))
    assert report.summary(12.4, Path("out")) == (
        "succeeded at step 2 · accuracy 50.0% · trained on 2,000 of 4,000 tokens (50%) · 12 s · out"
    )


def test_summary_and_json_have_the_named_sets(tmp_path: Path) -> None:
    report = RunReport()
    own = Answers(accuracy=0.5, pass_at_k=1.0, num_prompts=1, num_samples=4, correct=[2], mean_length=3)
    easy = own.model_copy(update={"accuracy": 0.75})
    report.add(EvaluationEvent(seq=1, time=0, step=2, seconds=1, sets={"easy": easy}, **own.model_dump()))
    assert report.summary(1, Path("out")).startswith("failed at step 2 · accuracy 50.0%, easy 75.0% · 1 s")
    latest = report.as_json(1, Path("out"))["latest"]
    assert (latest["eval/accuracy"], latest["eval/pass_at_k"], latest["eval/easy/accuracy"]) == (0.5, 1.0, 0.75)


def natlab_train(output: Path, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "client", "train", "examples/demo.yaml", "--output", str(output), *TINY, *arguments]
    return subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(output: Path, timeout_s: float = 90) -> None:
    """Wait until the trainer has reported a step."""
    tail, deadline = EventTail(output / "events.jsonl"), time.monotonic() + timeout_s
    while not any(isinstance(event, MetricsEvent) for event in tail.read()):
        assert time.monotonic() < deadline, "no step was reported"
        time.sleep(0.1)


@pytest.mark.slow
def test_train_runs_the_demo_for_two_steps_and_says_how_it_went(tmp_path: Path) -> None:
    command = natlab_train(tmp_path / "out", "--set", "steps=2", "--set", "evaluation.every=1")
    printed, errors = command.communicate(timeout=180)
    assert command.returncode == 0, errors
    events = [parse_event(line) for line in (tmp_path / "out" / "events.jsonl").read_bytes().splitlines()]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    lines = printed.splitlines()
    assert any(line.startswith("step 1/2 ") and "accuracy" in line for line in lines)
    assert lines[-1].startswith("succeeded at step 2 · accuracy ")
    assert json.loads((tmp_path / "out" / "spec.json").read_text())["steps"] == 2


@pytest.mark.slow
def test_ctrl_c_stops_after_the_step_with_a_checkpoint_and_status_130(tmp_path: Path) -> None:
    command = natlab_train(tmp_path / "out", "--set", "steps=10000")
    wait_for_step(tmp_path / "out")
    command.send_signal(signal.SIGINT)
    printed, errors = command.communicate(timeout=60)
    assert command.returncode == 130, errors
    assert printed.splitlines()[-1].startswith("stopped at step ")
    types = [parse_event(line).type for line in (tmp_path / "out" / "events.jsonl").read_bytes().splitlines()]
    assert "checkpoint" in types
    assert types[-1] == "state"
    assert processes_of(tmp_path / "out") == []


@pytest.mark.slow
def test_a_killed_command_leaves_no_trainer(tmp_path: Path) -> None:
    command = natlab_train(tmp_path / "out", "--set", "steps=10000")
    wait_for_step(tmp_path / "out")
    os.kill(command.pid, signal.SIGKILL)
    command.communicate(timeout=10)
    deadline = time.monotonic() + 30
    while processes_of(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(tmp_path / "out") == []
