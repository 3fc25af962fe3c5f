"""Every reward: how its verifier is built, and whether it runs in processes of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nat_core.reward import custom, gym, maths, plain
from nat_core.reward.sample import Verifier


@dataclass(frozen=True)
class Kind:
    """`apart`: it may be slow, hang or fall over, so it is scored in other processes."""

    build: Callable[[Any], Verifier]
    apart: bool = False


VERIFIERS: dict[str, Kind] = {
    "exact_match": Kind(plain.exact_match),
    "format": Kind(plain.has_format),
    "length": Kind(plain.has_length),
    "math_verify": Kind(maths.math_verify, apart=True),
    "reasoning_gym": Kind(gym.reasoning_gym, apart=True),
    "custom": Kind(custom.custom, apart=True),
}
