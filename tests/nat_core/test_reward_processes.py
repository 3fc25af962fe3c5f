"""Rewards in processes of their own: custom functions, time limits, failures, and that no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nat_core.errors import RewardError, SpecError
from nat_core.reward import Sample, Scorer
from nat_core.reward.custom import ALLOWED
from nat_core.spec import (
    CustomReward,
    ExactMatch,
    FormatReward,
    MathVerify,
    ReasoningGymReward,
    RewardPart,
    RewardSpec,
    WeightedSum,
)

FUNCTIONS = """
import os, sys, time

def length(*, prompt, completion, answer):
    print("printing is harmless")
    return len(completion) / 10

def hangs(*, prompt, completion, answer):
    while completion == "hang":
        pass
    return 1

def breaks(*, prompt, completion, answer):
    raise LookupError(f"no {answer}")

def dies(*, prompt, completion, answer):
    os._exit(7)

def says_yes(*, prompt, completion, answer):
    return "yes"

def has_torch(*, prompt, completion, answer):
    return float("torch" in sys.modules)

number = 3
"""


@pytest.fixture(autouse=True)
def _functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "our_rewards.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(ALLOWED, "our_rewards")


@pytest.fixture
def warnings() -> list[str]:
    return []


def custom(name: str, timeout_s: float = 60) -> CustomReward:
    return CustomReward(function=f"our_rewards:{name}", timeout_s=timeout_s)


@pytest.fixture
def scorers() -> Iterator[list[Scorer]]:
    made: list[Scorer] = []
    yield made
    for scorer in made:
        scorer.close()


def scored(
    scorers: list[Scorer], spec: RewardSpec, completions: list[str], warnings: list[str] | None = None
) -> list[float]:
    scorers.append(Scorer(spec, (warnings if warnings is not None else []).append))
    samples = [Sample("How far?", completion, "5") for completion in completions]
    return [score.reward for score in scorers[-1].score(samples)]


def test_a_function_of_the_operator_s_scores_in_order_and_may_print(scorers: list[Scorer]) -> None:
    completions = ["x" * (i % 7) for i in range(40)]
    assert scored(scorers, custom("length"), completions) == [(i % 7) / 10 for i in range(40)]
    assert scorers[-1].score([]) == []
    assert [s.reward for s in scorers[-1].score([Sample("", "xx", "")])] == [0.2]  # the same processes again


@pytest.mark.parametrize("allowed", ["", "other_rewards", "our_rewards:hangs"])
def test_a_function_that_the_operator_does_not_allow_is_refused(monkeypatch: pytest.MonkeyPatch, allowed: str) -> None:
    monkeypatch.setenv(ALLOWED, allowed)
    spec = WeightedSum(parts=[RewardPart(reward=ExactMatch()), RewardPart(reward=custom("length"))])
    with pytest.raises(SpecError, match=f"reward.function is our_rewards:length.*{ALLOWED}") as caught:
        Scorer(spec)
    assert caught.value.faults[0].pointer == "/reward/function"


def test_one_function_of_a_module_can_be_allowed(monkeypatch: pytest.MonkeyPatch, scorers: list[Scorer]) -> None:
    monkeypatch.setenv(ALLOWED, "other, our_rewards:length")
    assert scored(scorers, custom("length"), ["xxx"]) == [0.3]


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "AttributeError"), ("number", "is no function")],
)
def test_a_function_that_is_not_there_is_a_wrong_spec(scorers: list[Scorer], name: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"our_rewards:{name}.*{message}"):
        scored(scorers, custom(name), ["x"])


def test_what_takes_too_long_is_worth_nothing_and_told(scorers: list[Scorer], warnings: list[str]) -> None:
    completions = ["fine", "hang", "fine", "hang", "fine"]
    assert scored(scorers, custom("hangs", timeout_s=1), completions, warnings) == [1, 0, 1, 0, 1]
    [warning] = warnings
    assert warning.startswith("2 completions took longer than 1 s") and "'hang'" in warning


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("breaks", r"LookupError: no 5.*scoring completion 'x'.*'How far\?'.*'5'"),
        ("dies", r"ended with status 7.*scoring completion 'x'"),
        ("says_yes", r"TypeError: our_rewards:says_yes returned str.*scoring completion 'x'"),
    ],
)
def test_a_function_that_fails_stops_the_run_and_names_the_sample(
    scorers: list[Scorer], name: str, message: str
) -> None:
    with pytest.raises(RewardError, match=message):
        scored(scorers, custom(name), ["x"])


def test_scoring_processes_have_no_torch_though_their_parent_has(scorers: list[Scorer]) -> None:
    import torch  # noqa: F401

    assert scored(scorers, custom("has_torch"), ["x"]) == [0.0]


def test_mathematics_that_never_ends_is_cut_short(scorers: list[Scorer], warnings: list[str]) -> None:
    spec = MathVerify(timeout_s=5)
    tower = r"\boxed{9^{9^{9^{9^{9}}}}}"
    assert scored(scorers, spec, [r"\boxed{5}", tower, r"\boxed{\frac{10}{2}}"], warnings)[::2] == [1.0, 1.0]


@pytest.mark.parametrize("anchored", [True, False])
def test_a_number_of_any_length_is_a_wrong_answer_and_no_failure(scorers: list[Scorer], anchored: bool) -> None:
    long = "9" * 20_000  # Python itself refuses to read more than 4,300 digits
    spec = MathVerify(timeout_s=60, anchored=anchored)
    assert scored(scorers, spec, [rf"\boxed{{{long}}}", rf"\boxed{{\frac{{{long}}}{{2}}}}", r"\boxed{5}"]) == [0, 0, 1]


@pytest.mark.parametrize(
    "spec",
    [FormatReward(pattern=r"^(a+)+$", timeout_s=1), ExactMatch(answer_pattern=r"^((?:a+)+)$", timeout_s=1)],
    ids=lambda spec: spec.type,
)
def test_a_pattern_that_never_ends_is_cut_short(scorers: list[Scorer], warnings: list[str], spec: RewardSpec) -> None:
    scorers.append(Scorer(spec, warnings.append))
    endless = "a" * 60 + "b"
    found = scorers[-1].score([Sample("", text, "aa") for text in ("aa", endless, "aa")])
    assert [score.reward for score in found] == [1, 0, 1]
    assert warnings[0].startswith("1 completions took longer than 1 s") and endless in warnings[0]


def test_reasoning_gym_s_own_verifier_takes_every_right_answer(scorers: list[Scorer]) -> None:
    recipe = {"task": "countdown", "config": {"min_numbers": 2, "max_numbers": 2}, "seed": 3, "size": 1, "index": 0}
    import reasoning_gym

    entry = reasoning_gym.create_dataset("countdown", seed=3, size=1, min_numbers=2, max_numbers=2)[0]
    scorers.append(Scorer(ReasoningGymReward()))
    first, second = (
        Sample(entry["question"], f"so #### {text}", entry["answer"], entry=recipe) for text in (entry["answer"], "0")
    )
    right, wrong = scorers[-1].score([first, second])
    assert right.correct and right.reward == 1
    assert not wrong.correct and wrong.reward < 1


class Stopped(BaseException):
    """A stop is no `Exception`."""


def test_a_stop_is_heard_while_a_completion_is_scored_and_leaves_no_process(scorers: list[Scorer]) -> None:
    asked: list[int] = []

    def between() -> None:
        asked.append(len(children()))
        if len(asked) > 3:
            raise Stopped

    scorers.append(Scorer(custom("hangs", timeout_s=600), between=between))
    with pytest.raises(Stopped):
        scorers[-1].score([Sample("How far?", "hang", "5")])
    assert asked[-1] and not children()


def test_closing_leaves_no_process(scorers: list[Scorer]) -> None:
    scored(scorers, custom("length"), ["x"] * 4)
    assert children()
    scorers[-1].close()
    assert not children()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "nat_core.reward.worker" in " ".join(child.cmdline())]


def test_processes_die_with_a_trainer_that_is_killed(tmp_path: Path) -> None:
    """Even one that is busy in a loop."""
    script = tmp_path / "trainer.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, threading
            from nat_core.reward import Sample, Scorer
            from nat_core.spec import CustomReward
            scorer = Scorer(CustomReward(function="our_rewards:hangs", timeout_s=500))
            scorer.score([Sample("", "fine", "")])
            process = scorer._pools[0]._processes[0]
            print(process._process.pid, flush=True)
            scorer.score([Sample("", "hang", "")])
            """
        )
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    trainer = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path})
    assert trainer.stdout is not None
    scoring = psutil.Process(int(trainer.stdout.readline()))
    used = scoring.cpu_times().user
    deadline = time.monotonic() + 60
    while scoring.cpu_times().user < used + 0.5:  # it is in its loop
        assert time.monotonic() < deadline
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    trainer.stdout.close()
    psutil.wait_procs([scoring], timeout=30)
    assert not scoring.is_running() or scoring.status() == psutil.STATUS_ZOMBIE
