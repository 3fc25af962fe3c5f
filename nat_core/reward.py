"""Verifiers: what a completion is worth. A verifier that raises stops the run and names the sample."""

from __future__ import annotations

import re
from collections.abc import Callable

from nat_core.errors import RewardError
from nat_core.spec import ExactMatch, RewardSpec

Verifier = Callable[[str, str], float]


def build_verifier(spec: RewardSpec) -> Verifier:
    """The function (completion text, reference answer) -> reward that a spec asks for."""
    return VERIFIERS[spec.type](spec)


def score(verifier: Verifier, prompt: str, completion: str, answer: str) -> float:
    """Reward of one completion.

    Raises:
        RewardError: when the verifier raised, with the sample.
    """
    try:
        return verifier(completion, answer)
    except Exception as error:  # a verifier is foreign code; whatever it raises must name its sample
        raise RewardError(
            f"the reward raised {type(error).__name__}: {error}; it was scoring completion {completion[:200]!r} "
            f"of prompt {prompt[:200]!r} against answer {answer[:200]!r}"
        ) from error


def _exact_match(spec: ExactMatch) -> Verifier:
    pattern = re.compile(spec.answer_pattern)

    def final_answer(text: str) -> str | None:
        last = None
        for match in pattern.finditer(text):
            last = match.group(1)
        return None if last is None else _normalised(last)

    def verify(completion: str, answer: str) -> float:
        reference = final_answer(answer)
        given = final_answer(completion)
        return float(given is not None and given == (_normalised(answer) if reference is None else reference))

    return verify


def _normalised(answer: str) -> str:
    """Drop what does not change a number: spaces, thousands separators, currency and a final full stop."""
    text = answer.strip().replace(",", "").replace("$", "").rstrip(".").strip()
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


VERIFIERS: dict[str, Callable[[ExactMatch], Verifier]] = {"exact_match": _exact_match}
