"""References are right and near misses wrong: on our own rows always, on the whole sets where they are."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bench.rewards import SETS, WholeSet, perturbed, verify_set
from nat_core.reward import Scorer
from nat_core.reward.maths import reference_answer, same_answer
from nat_core.spec import MathVerify
from tests.nat_core.builders import OUR_ROWS, WHOLE_SETS, needs_whole_gsm8k, needs_whole_math

_OURS = [
    ("1", r"\frac{1}{2}", r"\frac{2}{2}"),
    ("2", "1,234", "2,234"),
    ("3", ".0999", ".1000"),
    ("4", r"\text{(C)}", r"\text{other}"),
    ("5", "p - q", "p - q + 1"),
]


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    made = Scorer(MathVerify(timeout_s=60))
    yield made
    made.close()


@pytest.mark.parametrize(("_", "answer", "near_miss"), _OURS)
def test_a_near_miss_differs_in_its_first_number_or_its_words(_: str, answer: str, near_miss: str) -> None:
    assert perturbed(answer) == near_miss
    assert same_answer(answer, answer) and not same_answer(near_miss, answer)


def test_our_own_rows_verify_and_their_near_misses_do_not(scorer: Scorer) -> None:
    rows = [json.loads(line) for line in OUR_ROWS.read_text().splitlines()]
    assert verify_set([(row["question"], row["answer"], row["answer"]) for row in rows], scorer) == []


def test_what_comes_out_otherwise_is_listed_with_its_reason(scorer: Scorer) -> None:
    rows = [("How many?", "no mark", "5"), ("How far?", r"\boxed{3}", "4")]
    found = verify_set(rows, scorer)
    assert [(entry["expected"], entry["reason"]) for entry in found] == [
        ("right", "the solution marks no answer"),
        ("right", "the two are not found equal"),
    ]
    assert reference_answer(found[1]["reference"]) == "4"


@pytest.mark.slow
@pytest.mark.parametrize(
    "whole",
    [
        pytest.param(whole, marks=needs_whole_math if whole.name == "math500" else needs_whole_gsm8k, id=whole.name)
        for whole in SETS
    ],
)
def test_whole_sets_verify_within_their_limit(whole: WholeSet, scorer: Scorer) -> None:
    rows = list(whole.rows(WHOLE_SETS))
    assert len(rows) == {"gsm8k/train": 7473, "gsm8k/test": 1319, "math500": 500}[whole.name]
    found = verify_set(rows, scorer)
    assert len(found) <= whole.limit * len(rows), found
