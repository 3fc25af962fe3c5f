"""The rollout of one step: prompts → completions → rewards → advantages."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nat_core.advantage import group_advantages, overlong_penalty
from nat_core.batch import CompletionBatch
from nat_core.data import Example
from nat_core.errors import Fault, SpecError
from nat_core.evaluate import score_groups
from nat_core.model import Policy
from nat_core.reward import Scorer
from nat_core.rollout.completion import Completion, Sampling
from nat_core.rollout.engine import Engine
from nat_core.spec import RunSpec


@dataclass(frozen=True)
class Rollout:
    """Completions of one step, flat (prompt-major), with what they were worth."""

    examples: list[Example]
    completions: list[Completion]
    rewards: torch.Tensor  # [P, G]
    batch: CompletionBatch


def roll_out(
    spec: RunSpec, policy: Policy, engine: Engine, scorer: Scorer, examples: list[Example], seed: int
) -> Rollout:
    """Sample and score a group of completions for each example.

    Raises:
        SpecError: a prompt is longer than `rollout.max_prompt_length`.
    """
    prompts = [_encode(spec, policy, example) for example in examples]
    size, longest = spec.rollout.num_generations, spec.rollout.max_completion_length
    groups = engine.generate(prompts, Sampling(size, longest, spec.rollout.temperature, seed))
    scores = torch.tensor(
        [[score.reward for score in group] for group in score_groups(policy, scorer, examples, groups)]
    )
    lengths = torch.tensor([[len(completion.ids) for completion in group] for group in groups])
    rewards = scores - overlong_penalty(lengths, longest, spec.objective)
    completions = [completion for group in groups for completion in group]
    batch = CompletionBatch(
        prompts=[torch.tensor(ids) for ids in prompts for _ in range(size)],
        completions=[torch.tensor(completion.ids) for completion in completions],
        advantages=group_advantages(rewards, spec.objective).flatten(),
        truncated=torch.tensor([completion.truncated for completion in completions]),
        rollout_logprobs=[torch.tensor(completion.logprobs) for completion in completions],
    )
    return Rollout(examples, completions, rewards, batch)


def _encode(spec: RunSpec, policy: Policy, example: Example) -> list[int]:
    ids = policy.encode(example)
    limit = spec.rollout.max_prompt_length
    if not 0 < len(ids) <= limit:
        detail = (
            f"rollout.max_prompt_length is {limit}, but prompt {example.prompt[:60]!r} has {len(ids)} tokens; "
            "raise it or shorten the prompt"
        )
        raise SpecError(detail, [Fault("/rollout/max_prompt_length", detail)])
    return ids
