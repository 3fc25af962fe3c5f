"""Whether another engine samples from the distribution that is trained: its log-probabilities tell.

An engine with other weights, another temperature or log-probabilities from before the temperature would train on ratios
that mean nothing, and nothing else would show it.
"""

from __future__ import annotations

import torch

from nat_core.errors import RolloutError
from nat_core.model import Policy
from nat_core.rollout.completion import Completion

_COMPLETIONS = 4
_TOKENS = 256  # of each, so that their logits stay small
_MOST = 0.2
"""Mean absolute difference in nats that rounding never makes: bfloat16 makes about 0.01."""
_NOTICEABLE = 1e-3
_ENOUGH = 32  # tokens, of which chance does not bring most nearer to the wrong distribution


@torch.no_grad()
def check_agreement(
    policy: Policy, prompts: list[list[int]], groups: list[list[Completion]], temperature: float
) -> float:
    """Hold the log-probabilities of some completions to the policy's own.

    Args:
        prompts, groups: as they were asked for and came back, with log-probabilities.
        temperature: that they were sampled at.

    Returns:
        The mean absolute difference over the tokens compared.

    Raises:
        RolloutError: it is larger than rounding explains, or they are clearly those from before the temperature, which
            near 1 differ by less than that.
    """
    compared = torch.cat(
        [
            _differences(policy, prompt, group[0], (temperature, 1.0))
            for prompt, group in list(zip(prompts, groups, strict=True))[:_COMPLETIONS]
        ],
        dim=1,
    )
    mean, without = compared.mean(dim=1).tolist()
    if not mean <= _MOST:
        raise RolloutError(
            f"the rollout engine's log-probabilities differ from the trainer's by {mean:.3g} on average, but rounding "
            f"explains {_MOST} at most; see that it serves this model, and gives processed log-probabilities "
            "(--logprobs-mode processed_logprobs)"
        )
    if compared.shape[1] >= _ENOUGH and mean > _NOTICEABLE and without < mean / 2:
        raise RolloutError(
            f"the rollout engine's log-probabilities are those from before the temperature of {temperature:g}: they "
            f"differ from the trainer's by {mean:.2g} on average with it and by {without:.2g} without; start the "
            "engine with --logprobs-mode processed_logprobs"
        )
    return float(mean)


def _differences(
    policy: Policy, prompt: list[int], completion: Completion, temperatures: tuple[float, ...]
) -> torch.Tensor:
    """Absolute differences at the completion's first tokens, by the temperature of the policy's: Float [n, t]."""
    ids = torch.tensor(completion.ids[:_TOKENS], device=policy.device)
    row = torch.cat([torch.tensor(prompt, device=policy.device), ids]).unsqueeze(0)
    logits = policy.head(policy.hidden_states(row)[0, len(prompt) - 1 : -1]).float()
    theirs = torch.tensor(completion.logprobs[:_TOKENS], device=policy.device)
    ours = [torch.log_softmax(logits / t, dim=-1).gather(1, ids.unsqueeze(1)).squeeze(1) for t in temperatures]
    return (torch.stack(ours) - theirs).abs()
