"""Mathematical answers: which part of a text is one, and when two are the same."""

from __future__ import annotations

import pytest

from nat_core.reward.maths import final_answer, math_verify, number, same_answer
from nat_core.reward.sample import Sample
from nat_core.spec import MathVerify


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so 3\n#### 18", "18"),
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{\left\{1, \{2\}\right\}} done", r"\left\{1, \{2\}\right\}"),
        (r"\boxed{\text{a \} b}}", r"\text{a \} b}"),
        ("#### 5\nno: \\boxed{6}", "6"),
        ("\\boxed{5}\nno:\n#### 6 ", "6"),
        (r"so $\boxed 7$", "7"),
        (r"\fbox{8}", "8"),
        (r"cut off \boxed{12", "12"),
        ("the answer is 5", None),
        (r"\boxed{}", None),
        ("", None),
    ],
)
def test_the_last_mark_is_the_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,234", 1234), (r"\$32,\!348", 32348), ("-3.50", -3.5), (".5", 0.5), ("18.", 18), ("+7", 7)],
)
def test_plain_numbers_are_read_as_such(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["1,2", "12,34", "x", "", "-", ".", "1/2", "5%", "52_8", "1e5"])
def test_other_texts_are_no_plain_numbers(text: str) -> None:
    assert number(text) is None


SAME = [
    ("18", "18.0"),
    ("10,000", "10000"),
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", r"\dfrac{2}{4}"),
    ("1/2", r"\frac{1}{2}"),
    (r"\{1, 2, 3\}", r"\{3, 2, 1\}"),
    ("2, -1", "-1, 2"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    (r"x^2 - 1", r"(x-1)(x+1)"),
    (r"90^\circ", "90"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"(3, \frac{\pi}{2})", r"\left( 3, \frac{\pi}{2} \right)"),
    (r"[0, 1)", r"\left[0,1\right)"),
    (r"\begin{pmatrix} 1/2 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 0.5 \\ 2 \end{pmatrix}"),
]
DIFFERENT = [
    ("18", "19"),
    ("1.5", "15"),
    (r"\frac{1}{2}", r"\frac{1}{3}"),
    (r"\{1, 2\}", r"\{1, 2, 3\}"),
    ("[0, 1)", "[0, 1]"),
    (r"2\sqrt{3}", r"\sqrt{13}"),
    (r"\text{Evelyn}", r"\text{Evan}"),
    ("(1, 2)", "(2, 1)"),
    ("x = 5", "x = 6"),
]


@pytest.mark.parametrize(("given", "reference"), SAME)
def test_the_same_answer_written_otherwise_is_right(given: str, reference: str) -> None:
    assert same_answer(given, reference)
    assert same_answer(reference, given)


@pytest.mark.parametrize(("given", "reference"), DIFFERENT)
def test_another_answer_is_wrong(given: str, reference: str) -> None:
    assert not same_answer(given, reference)


def test_only_marked_answers_count_unless_others_are_asked_for() -> None:
    sample = Sample("", "I think that the answer is $\\frac{1}{2}$.", "0.5")
    assert math_verify(MathVerify())(sample).reward == 0
    assert math_verify(MathVerify(anchored=False))(sample).reward == 1
    assert math_verify(MathVerify(anchored=False))(Sample("", "no idea", "0.5")).reward == 0


def test_the_reference_may_be_a_whole_solution() -> None:
    verify = math_verify(MathVerify())
    assert verify(Sample("", r"\boxed{72}", "48/2 = <<48/2=24>>24\n#### 72")).reward == 1
    assert verify(Sample("", r"\boxed{72}", r"First 24. So \boxed{72}.")).reward == 1
    assert verify(Sample("", r"\boxed{72}", r"First 72. So \boxed{24}.")).reward == 0
