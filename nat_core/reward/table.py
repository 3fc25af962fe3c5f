"""Every reward: how its verifier is built, whether it runs in processes of its own, and whether it reads answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nat_core.reward import custom, gym, maths, plain
from nat_core.reward.sample import Verifier


def _never(_: Any) -> bool:
    return False


def _always(_: Any) -> bool:
    return True


@dataclass(frozen=True)
class Kind:
    """Attributes:
    apart: whether, as a spec has it, it may be slow, hang or fall over; then other processes score it.
    reads_answers: whether its verdicts tell the answer that a completion gives, where it gives one.
    """

    build: Callable[[Any], Verifier]
    apart: Callable[[Any], bool] = _never
    reads_answers: bool = False


VERIFIERS: dict[str, Kind] = {
    "exact_match": Kind(plain.exact_match, apart=plain.has_own_pattern, reads_answers=True),
    "format": Kind(plain.has_format, apart=_always),
    "length": Kind(plain.has_length),
    "math_verify": Kind(maths.math_verify, apart=_always, reads_answers=True),
    "reasoning_gym": Kind(gym.reasoning_gym, apart=_always, reads_answers=True),
    "custom": Kind(custom.custom, apart=_always),
}
