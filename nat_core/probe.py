"""How far a budget's gradient is from the full one, on a batch that is being trained on.

One full backward pass and two independent selections of the same batch, drawn from a stream of
their own, so that a run with probes trains exactly like one without.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nat_core.batch import CompletionBatch
from nat_core.drawing import draw_step
from nat_core.gradient import accumulate_gradient
from nat_core.model import Policy
from nat_core.ranks import full
from nat_core.spec import FullBudget, RunSpec
from nat_core.token_selection import GradientMass


def probe_gradient(
    policy: Policy,
    batch: CompletionBatch,
    spec: RunSpec,
    *,
    generator: torch.Generator,
    reference: Policy | None = None,
    law_state: GradientMass | None = None,
) -> dict[str, float]:
    """Compare two selections' gradients with the full gradient, before clipping and before the update.

    The policy's `.grad`s are overwritten; its weights, and `law_state`, stay as they are.

    Returns:
        `probe/cosine`, mean cosine with the full gradient G, and `probe/relative_variance`, mean |g - G|² / |G|²
        (for a biased budget its squared error); nothing where the full gradient is 0.
    """

    def gradient(of: RunSpec) -> list[Tensor]:
        step = draw_step(policy, batch, of, generator, law_state)
        accumulate_gradient(policy, reference, step, of)
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in policy.parameters]

    full = gradient(spec.model_copy(update={"budget": FullBudget()}))
    length = _dot(full, full)
    if length == 0:
        return {}
    cosines, errors = [], []
    for _ in range(2):
        part = gradient(spec)
        dot, square = _dot(part, full), _dot(part, part)
        cosines.append(dot / (length * square) ** 0.5 if square else 0.0)
        errors.append((square - 2 * dot + length) / length)
    return {"probe/cosine": sum(cosines) / 2, "probe/relative_variance": max(sum(errors) / 2, 0.0)}


def _dot(left: list[Tensor], right: list[Tensor]) -> float:
    return sum(float(full((a.double() * b.double()).sum())) for a, b in zip(left, right, strict=True))
