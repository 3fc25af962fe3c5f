"""The completions of one rollout batch, as the update step takes them. B completions, T longest completion."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nat_core.loss import StepTotals
from nat_core.spec import RunSpec


@dataclass(frozen=True)
class CompletionBatch:
    """The completions of one rollout batch.

    Attributes:
        prompts: token ids of each completion's prompt, Long [P_i].
        completions: token ids of each completion, Long [T_i].
        advantages: Float [B].
        truncated: Bool [B], those that hit the length limit.
        rollout_logprobs: of each completion's tokens when they were sampled, Float [T_i]; empty where not known.
    """

    prompts: list[Tensor]
    completions: list[Tensor]
    advantages: Tensor
    truncated: Tensor
    rollout_logprobs: list[Tensor] = field(default_factory=list)

    @property
    def lengths(self) -> Tensor:
        """Full completion lengths, Long [B]."""
        return torch.tensor([len(ids) for ids in self.completions], dtype=torch.long)

    @property
    def prompt_lengths(self) -> Tensor:
        """Long [B]."""
        return torch.tensor([len(ids) for ids in self.prompts], dtype=torch.long)

    @property
    def prompt_sharers(self) -> Tensor:
        """How many of the completions have each one's prompt, Long [B]."""
        keys = [prompt.numpy().tobytes() for prompt in self.prompts]
        counts = Counter(keys)
        return torch.tensor([counts[key] for key in keys], dtype=torch.long)

    @property
    def padded_rollout_logprobs(self) -> Tensor | None:
        """Float [B, T], 0 on padding; None where they are not known. Of no completions they are: there are none."""
        if not self.rollout_logprobs:
            return None if self.completions else torch.zeros(0, 0)
        return torch.nn.utils.rnn.pad_sequence(self.rollout_logprobs, batch_first=True)

    def live(self, spec: RunSpec) -> Tensor:
        """Indices of completions that can move the policy, Long [b].

        Without a KL term and an entropy bonus those with zero advantage have zero loss and gradient: they leave before
        selection, so that no budget is spent on them. Their lengths and number stay in the denominators.
        """
        keep = torch.ones(len(self.completions), dtype=torch.bool)
        if spec.objective.beta == 0 and spec.objective.entropy_coef == 0:
            keep &= self.advantages != 0
        if spec.objective.mask_truncated_completions:
            keep &= ~self.truncated
        return keep.nonzero().squeeze(1)

    def totals(self, spec: RunSpec) -> StepTotals:
        """What the step's denominators count; truncated completions leave the tokens when masked, as in TRL 1.16."""
        counted = self.lengths[~self.truncated] if spec.objective.mask_truncated_completions else self.lengths
        return StepTotals(int(counted.sum()), len(self.completions), spec.rollout.max_completion_length)

    def rows(self, index: Tensor) -> CompletionBatch:
        """Some of the completions; `index` Long [b]."""
        chosen = index.tolist()
        return CompletionBatch(
            [self.prompts[i] for i in chosen],
            [self.completions[i] for i in chosen],
            self.advantages[index],
            self.truncated[index],
            [self.rollout_logprobs[i] for i in chosen] if self.rollout_logprobs else [],
        )
