"""What many sampled answers to the same questions say: pure numbers, no model and no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb

from nat_core.answers import Answers
from nat_core.comparison import wilson_interval


def tally(
    right: Sequence[Sequence[bool]],
    given: Sequence[Sequence[str | None]] | None,
    lengths: Sequence[int],
    greedy: float | None,
) -> Answers:
    """Count answers.

    Args:
        right: whether each sample of each prompt is right, all prompts with as many samples.
        given: the answers themselves, None where a sample has none; None where the reward reads no answers.
        lengths: tokens of every sample.
        greedy: share of right greedy answers, where there are any.
    """
    correct, num_samples = [sum(row) for row in right], len(right[0])
    accuracy = sum(correct) / (len(right) * num_samples)
    low, high = wilson_interval(accuracy, len(right) * num_samples)
    votes = None if given is None else [majority_at_k(r, g) for r, g in zip(right, given, strict=True)]
    return Answers(
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        accuracy_greedy=greedy,
        pass_at_k=_mean([pass_at_k(num_samples, c, num_samples) for c in correct]),
        pass_at={k: _mean([pass_at_k(num_samples, c, k) for c in correct]) for k in doubling(num_samples)},
        majority_at_k=None if votes is None else _mean(votes),
        num_prompts=len(right),
        num_samples=num_samples,
        correct=correct,
        mean_length=_mean(lengths),
    )


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Chance that k of the samples, drawn without replacement, hold a right one.

    1 - C(n - c, k) / C(n, k), the unbiased estimate of pass@k (Chen et al. 2021, arXiv 2107.03374).
    """
    return 1 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def majority_at_k(right: Sequence[bool], given: Sequence[str | None]) -> float:
    """1 if the most frequent answer is right; of several as frequent, the share that is.

    Right answers are one answer, however they are written. Samples without an answer do not vote.
    """
    votes = Counter(
        (True, "") if is_right else (False, answer)
        for is_right, answer in zip(right, given, strict=True)
        if is_right or answer is not None
    )
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [is_right for (is_right, _), count in votes.items() if count == most]
    return sum(winners) / len(winners)


def doubling(num_samples: int) -> list[int]:
    """1, 2, 4, … and the number itself."""
    return sorted({num_samples, *(2**i for i in range(num_samples.bit_length()) if 2**i <= num_samples)})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
