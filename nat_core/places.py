"""Whether a model has a place for every token that a run may ask for."""

from __future__ import annotations

from torch import nn

from nat_core.errors import SpecError
from nat_core.model import Policy
from nat_core.spec import RolloutSpec


def check_places(policy: Policy, rollout: RolloutSpec) -> None:
    """Models that learn an embedding for each position (GPT-2, OPT) have none beyond their last, which no error of
    theirs would say in words; those with rotary positions go on.

    Raises:
        SpecError: a prompt with its completion may be longer.
    """
    decoder, config = policy.model.get_decoder(), policy.model.config.get_text_config()
    places = getattr(config, "max_position_embeddings", None)
    longest = rollout.max_prompt_length + rollout.max_completion_length
    tables = [
        module
        for module in decoder.modules()
        if isinstance(module, nn.Embedding) and module is not policy.model.get_input_embeddings()
    ]
    # A table may have a few rows more than it has places for tokens (OPT: two).
    if places is None or longest <= places or not any(module.num_embeddings >= places for module in tables):
        return
    raise SpecError.at(
        "/rollout/max_completion_length",
        f"model.path {policy.spec.path} has places for {places} tokens, but one completion with its prompt may have "
        f"{longest} (rollout.max_prompt_length {rollout.max_prompt_length} + max_completion_length "
        f"{rollout.max_completion_length}); lower those",
    )
