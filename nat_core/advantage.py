"""Rewards to advantages: soft overlong penalty, baseline of the group, scale (GRPO, arXiv 2402.03300)."""

from __future__ import annotations

import torch
from torch import Tensor

from nat_core.spec import ObjectiveSpec

_STD_FLOOR = 1e-4  # TRL's; keeps a nearly constant group finite


def group_advantages(rewards: Tensor, objective: ObjectiveSpec) -> Tensor:
    """Reward minus the baseline, divided as `scale_rewards` says (TRL's name).

    The baseline is the group's mean, or with `leave_one_out` the mean of the group's others (RLOO, arXiv 2402.14740):
    that is G / (G-1) times the difference from the mean.

    Args:
        rewards: Float [P, G], P prompts with G completions each.

    Returns:
        Float [P, G]; exactly 0 in groups whose rewards are all equal, so that they can be dropped.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if objective.advantage_baseline == "leave_one_out":
        centred = centred * (rewards.shape[1] / (rewards.shape[1] - 1))
    if objective.scale_rewards == "group":
        centred = centred / (rewards.std(dim=1, keepdim=True) + _STD_FLOOR)
    elif objective.scale_rewards == "batch":
        centred = centred / (rewards.std() + _STD_FLOOR)
    equal = rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)
    return torch.where(equal, torch.zeros_like(centred), centred)


def overlong_penalty(lengths: Tensor, max_completion_length: int, objective: ObjectiveSpec) -> Tensor:
    """What is taken from the reward of long completions (DAPO, arXiv 2503.14476, equation 13).

    0 up to `max_completion_length - overlong_buffer`, then in a straight line to `overlong_penalty` at the limit.

    Args:
        lengths: Long, any shape.

    Returns:
        Float, the same shape, >= 0.
    """
    buffer = objective.overlong_buffer
    if buffer == 0:
        return torch.zeros(lengths.shape)
    over = (lengths - (max_completion_length - buffer)).clamp(min=0)
    return objective.overlong_penalty * over.float() / buffer
