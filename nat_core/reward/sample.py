"""What is scored, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_SHOWN = 200  # characters of a text in a message


@dataclass(frozen=True)
class Sample:
    """One completion, decoded. `entry` is how a generator made the task."""

    prompt: str
    completion: str
    answer: str
    num_tokens: int = 0
    entry: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return (
            f"completion {self.completion[:_SHOWN]!r} of prompt {self.prompt[:_SHOWN]!r} against answer "
            f"{self.answer[:_SHOWN]!r}"
        )


@dataclass(frozen=True)
class Verdict:
    """What one verifier says: a reward, and the answer it read in the completion where it reads one."""

    reward: float
    answer: str | None = None


@dataclass(frozen=True)
class Score:
    """What a completion is worth, whether its answer is right, and which answer that is, for majority votes."""

    reward: float
    correct: bool
    answer: str | None = None


Verifier = Callable[[Sample], Verdict]
