"""Exact match, and what a verifier's failure says."""

from __future__ import annotations

import pytest

from nat_core.errors import RewardError
from nat_core.reward import build_verifier, score
from nat_core.spec import ExactMatch


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
    ],
)
def test_exact_match(completion: str, answer: str, reward: float) -> None:
    assert build_verifier(ExactMatch())(completion, answer) == reward


def test_another_pattern_reads_another_format() -> None:
    verifier = build_verifier(ExactMatch(answer_pattern=r"<answer>(.*?)</answer>"))
    assert verifier("<answer> blue </answer>", "blue") == 1.0


def test_a_verifier_that_raises_names_its_sample() -> None:
    def broken(completion: str, answer: str) -> float:
        raise KeyError("units")

    with pytest.raises(RewardError, match=r"KeyError: 'units'.*'4 m'.*'How far\?'.*'5'"):
        score(broken, "How far?", "4 m", "5")
