"""Advantages from a group's rewards (GRPO, arXiv 2402.03300; `scale_rewards` as in TRL)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

_STD_FLOOR = 1e-4  # TRL's; keeps a nearly constant group finite


def group_advantages(rewards: Tensor, scale_rewards: Literal["group", "batch", "none"]) -> Tensor:
    """Reward minus the group's mean, divided as `scale_rewards` says.

    Args:
        rewards: Float [P, G], P prompts with G completions each.
        scale_rewards: `group` divides by the group's sample standard deviation, `batch` by that of all rewards.

    Returns:
        Float [P, G]; exactly 0 in groups whose rewards are all equal, so that they can be dropped.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if scale_rewards == "group":
        centred = centred / (rewards.std(dim=1, keepdim=True) + _STD_FLOOR)
    elif scale_rewards == "batch":
        centred = centred / (rewards.std() + _STD_FLOOR)
    equal = rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)
    return torch.where(equal, torch.zeros_like(centred), centred)
