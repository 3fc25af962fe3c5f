"""What a rollout engine is asked for, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sampling:
    """How prompts are completed in one call.

    Attributes:
        num_samples: completions of each prompt.
        max_completion_length: longest completion, in tokens.
        temperature: None decodes greedily. No top-k or top-p: log-probabilities stay those of the model.
        seed: of the call's own random streams; the process's other streams are left as they were.
    """

    num_samples: int
    max_completion_length: int
    temperature: float | None
    seed: int


@dataclass(frozen=True)
class Completion:
    """Token ids of one completion, its end-of-sequence token included.

    `truncated` says that it hit the length limit before ending by itself. `logprobs` are those of the sampling
    distribution, one a token; none for greedy completions.
    """

    ids: list[int]
    truncated: bool
    logprobs: list[float] = field(default_factory=list)
