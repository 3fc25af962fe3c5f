"""Each reward alone and in sums, and what a verifier's failure says."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from nat_core.errors import RewardError, SpecError
from nat_core.reward import Sample, Score, Scorer
from nat_core.reward.sample import Verdict
from nat_core.reward.table import VERIFIERS, Kind
from nat_core.spec import ExactMatch, FormatReward, LengthReward, RewardPart, WeightedSum, parse_run_spec


def score(spec: object, completion: str, answer: str = "", num_tokens: int = 0) -> Score:
    with closing(Scorer(spec)) as scorer:  # type: ignore[arg-type]
        [found] = scorer.score([Sample("", completion, answer, num_tokens)])
    return found


@pytest.mark.parametrize(
    ("completion", "answer", "reward"),
    [
        ("a7+5=2 ####2", "2", 1.0),
        ("a7+5=2 ####3", "2", 0.0),
        ("a7+5=2", "2", 0.0),
        ("so #### 1,234.", "48/2 = 24\n#### 1234", 1.0),
        ("#### 5 no wait #### 6", "#### 6", 1.0),
        ("#### $72.00", "#### 72", 1.0),
        ("", "#### 72", 0.0),
        ("#### nan", "#### nan", 1.0),
        ("#### inf", "#### 1", 0.0),
        ("#### 123456789012345678", "#### 123456789012345680", 0.0),  # the same as floating-point numbers
        ("#### 1,000,000,000,000,000,000.0", "#### 1e18", 1.0),
        ("#### " + "9" * 400, "#### " + "8" * 400, 0.0),
        ("#### 1e999999999999", "#### 5", 0.0),
        ("#### -.50", "#### -5e-1", 1.0),
        ("#### -0", "#### 0", 1.0),
    ],
    ids=lambda value: str(value)[:30],
)
def test_exact_match(completion: str, answer: str, reward: float) -> None:
    found = score(ExactMatch(), completion, answer)
    assert (found.reward, found.correct) == (reward, reward == 1)


def test_exact_match_tells_the_answer_it_read() -> None:
    assert score(ExactMatch(), "#### 1,234.0 ", "5").answer == "1234"
    assert score(ExactMatch(), "no mark", "5").answer is None


def test_another_pattern_reads_another_format() -> None:
    assert score(ExactMatch(answer_pattern=r"<answer>(.*?)</answer>"), "<answer> blue </answer>", "blue").correct


def test_a_format_is_found_over_several_lines() -> None:
    spec = FormatReward(pattern=r"^<think>.*</think>.*\\boxed\{.*\}\s*\Z")
    assert score(spec, "<think>a\nb</think>\nso \\boxed{2}\n").reward == 1
    assert score(spec, "so <think>a</think> \\boxed{2}").reward == 0


@pytest.mark.parametrize(("tokens", "reward"), [(0, 1.0), (100, 1.0), (125, 0.75), (200, 0.0), (900, 0.0)])
def test_length_falls_in_a_straight_line(tokens: int, reward: float) -> None:
    assert score(LengthReward(free=100, limit=200), "", num_tokens=tokens).reward == reward


def test_a_sum_weighs_its_parts_and_its_first_one_says_what_is_right() -> None:
    spec = WeightedSum(
        parts=[
            RewardPart(reward=ExactMatch()),
            RewardPart(weight=0.25, reward=FormatReward(pattern="because")),
            RewardPart(weight=-0.5, reward=LengthReward(free=1, limit=2)),
        ]
    )
    assert score(spec, "because #### 5", "5", num_tokens=9) == Score(1.25, True, "5")
    assert score(spec, "#### 6", "5", num_tokens=0) == Score(-0.5, False, "6")


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ({"type": "length", "free": 5, "limit": 5}, "reward.free is 5, but reward.limit is 5"),
        ({"type": "format", "pattern": "("}, r"reward\.pattern is '\('.*regular expression"),
        ({"type": "reasoning_gym"}, "data.type is demo_arithmetic, which has no generator"),
        ({"type": "sum", "parts": [{"reward": {"type": "reasoning_gym"}}]}, "has no generator"),
        ({"type": "sum", "parts": []}, "reward.parts is"),
        ({"type": "custom", "function": "os.system"}, "reward.function is 'os.system'"),
        ({"type": "magic"}, "magic"),
    ],
)
def test_a_reward_that_cannot_be_is_refused(reward: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse_run_spec({"reward": reward})


def test_a_reward_without_type_is_an_exact_match_as_it_always_was() -> None:
    assert parse_run_spec({"reward": {"answer_pattern": "(x)"}}).reward == ExactMatch(answer_pattern="(x)")
    spec = parse_run_spec({"evaluation": {"sets": {"a": {"data": {"type": "gsm8k"}, "reward": {}}}}})
    assert spec.evaluation.sets["a"].reward == ExactMatch()


def test_a_set_needs_a_reward_that_knows_its_data() -> None:
    gym = {"type": "reasoning_gym", "task": "chain_sum"}
    run = {"data": gym, "reward": {"type": "reasoning_gym"}}
    parse_run_spec({**run, "evaluation": {"sets": {"a": {"data": gym}}}})
    with pytest.raises(SpecError, match=r"evaluation\.sets\.a\.reward\.type is reasoning_gym, but data\.type is gsm8k"):
        parse_run_spec({**run, "evaluation": {"sets": {"a": {"data": {"type": "gsm8k"}}}}})
    parse_run_spec(
        {**run, "evaluation": {"sets": {"a": {"data": {"type": "gsm8k"}, "reward": {"type": "math_verify"}}}}}
    )


def test_a_verifier_that_raises_names_its_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(sample: Sample) -> Verdict:
        raise KeyError("units")

    monkeypatch.setitem(VERIFIERS, "exact_match", Kind(lambda _: broken))
    with pytest.raises(RewardError, match=r"KeyError: 'units'.*'4 m'.*'How far\?'.*'5'"):
        Scorer(ExactMatch()).score([Sample("How far?", "4 m", "5")])


def test_a_reward_that_is_no_finite_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VERIFIERS, "exact_match", Kind(lambda _: lambda sample: Verdict(float("nan"))))
    with pytest.raises(RewardError, match=r"reward is nan.*'4 m'"):
        Scorer(ExactMatch()).score([Sample("How far?", "4 m", "5")])


def test_rewards_and_the_processes_that_score_load_no_torch(tmp_path: Path) -> None:
    code = "import sys, nat_core.reward, nat_core.reward.worker; print('torch' in sys.modules, 'sympy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False False", done.stderr
