"""pass@k, majority@k and intervals against numbers worked by hand."""

from __future__ import annotations

import itertools

import pytest

from nat_core.answers import Answers
from nat_core.events import METRICS, EvaluationEvent, evaluation_path, metric_info, parse_event
from nat_core.tally import doubling, majority_at_k, pass_at_k, tally


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 2), (5, 2, 3), (6, 0, 2), (6, 6, 1), (5, 4, 5), (7, 3, 1)])
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_answer(n: int, c: int, k: int) -> None:
    answers = [True] * c + [False] * (n - c)
    draws = list(itertools.combinations(answers, k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_is_unbiased() -> None:
    """Averaged over all outcomes of n = 4 answers that are right with chance 0.3, pass@2 is 1 - 0.7²."""
    p, n, k = 0.3, 4, 2
    mean = sum(
        p ** sum(outcome) * (1 - p) ** (n - sum(outcome)) * pass_at_k(n, sum(outcome), k)
        for outcome in itertools.product((0, 1), repeat=n)
    )
    assert mean == pytest.approx(1 - 0.7**2)


@pytest.mark.parametrize(
    ("right", "given", "value"),
    [
        ([True, True, False], ["5", "5", "6"], 1.0),
        ([True, False, False], ["5", "6", "6"], 0.0),
        ([True, False, False], ["5", "6", "7"], 1 / 3),
        ([True, True, False, False], ["1/2", "0.5", "6", "6"], 0.5),  # right ones are one answer
        ([True, False, False], ["5", None, None], 1.0),  # silence does not vote
        ([False, False], [None, None], 0.0),
    ],
)
def test_the_most_frequent_answer_counts(right: list[bool], given: list[str | None], value: float) -> None:
    assert majority_at_k(right, given) == pytest.approx(value)


def test_ks_double_up_to_the_number_of_samples() -> None:
    assert [doubling(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_a_tally_worked_by_hand() -> None:
    found = tally(
        right=[[True, True, False, True], [False, False, False, False]],
        given=[["5", "5", "6", "5"], ["1", "2", None, "2"]],
        lengths=[10, 20, 30, 40, 10, 10, 10, 10],
        greedy=0.5,
    )
    assert (found.accuracy, found.accuracy_greedy, found.correct) == (3 / 8, 0.5, [3, 0])
    assert (found.num_prompts, found.num_samples, found.mean_length) == (2, 4, 17.5)
    assert found.pass_at == {1: 3 / 8, 2: 0.5, 4: 0.5} and found.pass_at_k == 0.5
    assert found.majority_at_k == 0.5
    # Wilson for 3 of 8, worked by hand: centre (0.375 + z²/16) / (1 + z²/8), z = 1.95996
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx((0.1368, 0.6943), abs=1e-4)


def test_rewards_that_read_no_answers_have_no_majority() -> None:
    assert tally([[True, False]], None, [1, 1], None).majority_at_k is None


def test_answers_that_nobody_gives_are_a_majority_of_none_right() -> None:
    """A model that has yet to learn how to mark its answer starts its curve at 0, as its accuracy does."""
    assert tally([[False, False]], [[None, None]], [1, 1], None).majority_at_k == 0


ANSWERS = Answers(accuracy=0.5, pass_at_k=0.75, num_prompts=2, num_samples=2, correct=[1, 1], mean_length=3.0)


def event(**changes: object) -> EvaluationEvent:
    fields = ANSWERS.model_dump() | {"seq": 1, "time": 0.0, "step": 0, "seconds": 1.0} | changes
    return EvaluationEvent.model_validate(fields)


def test_an_evaluation_carries_metrics_of_the_run_s_own_questions_and_of_each_set() -> None:
    made = event(sets={"aime-24": ANSWERS.model_copy(update={"accuracy": 0.25, "majority_at_k": 0.0})})
    assert made.metric_values() == {
        "eval/accuracy": 0.5,
        "eval/pass_at_k": 0.75,
        "eval/mean_length": 3.0,
        "eval/aime-24/accuracy": 0.25,
        "eval/aime-24/pass_at_k": 0.75,
        "eval/aime-24/majority_at_k": 0.0,
        "eval/aime-24/mean_length": 3.0,
    }
    assert parse_event(made.model_dump_json()) == made
    for key in made.metric_values():
        assert metric_info(key) is not None and evaluation_path(key) is not None


def test_an_accuracy_carries_the_ends_of_its_interval() -> None:
    made = event(accuracy_low=0.2, accuracy_high=0.8)
    assert (made.metric_values()["eval/accuracy_low"], made.metric_values()["eval/accuracy_high"]) == (0.2, 0.8)
    assert evaluation_path("eval/accuracy_low") == "$.accuracy_low"
    assert evaluation_path("eval/aime-24/accuracy_high") == '$.sets."aime-24".accuracy_high'


def test_an_evaluation_from_before_there_were_sets_still_reads() -> None:
    old = (
        '{"seq": 3, "time": 1.0, "step": 0, "type": "evaluation", "accuracy": 0.5, "accuracy_greedy": null, '
        '"num_prompts": 1, "num_samples": 2, "correct": [1], "mean_length": 4.0, "seconds": 2.0}'
    )
    found = parse_event(old)
    assert isinstance(found, EvaluationEvent)
    assert found.metric_values() == {"eval/accuracy": 0.5, "eval/mean_length": 4.0}


def test_a_set_s_metric_is_known_by_the_run_s_own() -> None:
    info = metric_info("eval/math500/accuracy")
    assert info is not None and info.label == "Accuracy, math500" and info.unit == "share"
    assert metric_info("eval/accuracy") is METRICS["eval/accuracy"]
    assert metric_info("eval/math500/magic") is None and metric_info("eval/Bad Name/accuracy") is None
    assert evaluation_path("eval/math500/accuracy") == '$.sets."math500".accuracy'
    assert evaluation_path("eval/accuracy") == "$.accuracy"
    assert evaluation_path("reward") is None and evaluation_path('eval/a"b/accuracy') is None
