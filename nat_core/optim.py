"""Optimizer and learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from nat_core.spec import OptimSpec


def build_optimizer(parameters: list[nn.Parameter], spec: OptimSpec) -> torch.optim.Optimizer:
    """AdamW, fused: one kernel over all parameters on CPU and GPU alike."""
    return torch.optim.AdamW(
        parameters,
        lr=spec.learning_rate,
        betas=(spec.adam_beta1, spec.adam_beta2),
        weight_decay=spec.weight_decay,
        fused=True,
    )


def build_schedule(
    optimizer: torch.optim.Optimizer, spec: OptimSpec, total_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then constant or falling to 0 at `total_steps` optimizer steps."""
    span = max(total_steps - spec.warmup_steps, 1)

    def factor(step: int) -> float:
        if step < spec.warmup_steps:
            return (step + 1) / spec.warmup_steps
        done = min((step - spec.warmup_steps) / span, 1.0)
        return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[
            spec.lr_scheduler_type
        ]

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
