"""What a rollout engine gives back."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Completion:
    """Token ids of one completion, its end-of-sequence token included.

    `truncated` says that it hit the length limit before ending by itself. `logprobs` are those of the sampling
    distribution, one a token; none for greedy completions.
    """

    ids: list[int]
    truncated: bool
    logprobs: list[float] = field(default_factory=list)
