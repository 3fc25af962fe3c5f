"""Whether a model has a place for every token that a run may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nat_core.data import Example
from nat_core.errors import SpecError
from nat_core.model import Policy

_SPARE = 8  # rows that a table of positions may have more than it has places for tokens; OPT's has two


@dataclass
class PromptLengths:
    """Counts prompts in tokens, and remembers the longest of those that a run may train on.

    Attributes:
        limit: `rollout.max_prompt_length`.
    """

    policy: Policy
    limit: int
    longest: int = 0

    def __call__(self, example: Example) -> int:
        count = len(self.policy.encode(example))
        if count <= self.limit:
            self.longest = max(self.longest, count)
        return count


def check_places(policy: Policy, prompt: int, completion: int) -> None:
    """Models that learn an embedding for each position (GPT-2, OPT) have none beyond their last, which no error of
    theirs would say in words; those with rotary positions go on.

    Args:
        prompt: tokens of the longest prompt.
        completion: tokens of a completion at most; the last one is only predicted.

    Raises:
        SpecError: both together are too long.
    """
    places = _learned_places(policy)
    if places is not None and prompt + completion - 1 > places:
        raise SpecError.at(
            "/rollout/max_completion_length",
            f"rollout.max_completion_length is {completion}, but model.path {policy.spec.path} has places for {places} "
            f"tokens, and the longest prompt takes {prompt}; use "
            f"{max(places - prompt + 1, 0)} at most, or shorter prompts",
        )


def _learned_places(policy: Policy) -> int | None:
    """How many, where positions are looked up in a table."""
    places = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    tables = [module for module in policy.model.get_decoder().modules() if isinstance(module, nn.Embedding)]
    words = policy.model.get_input_embeddings()
    if places and any(t is not words and places <= t.num_embeddings <= places + _SPARE for t in tables):
        return int(places)
    return None
