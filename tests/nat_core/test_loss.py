"""Losses against numbers worked by hand and a plain GRPO in a few lines."""

from __future__ import annotations

import math

import pytest
import torch

from nat_core.loss import policy_loss
from nat_core.spec import FullBudget, ObjectiveSpec
from nat_core.token_selection import DenseSelection, TokenSelection, select_tokens

LENGTHS = torch.tensor([2, 3])


def full() -> TokenSelection:
    return select_tokens(FullBudget(), LENGTHS, generator=torch.Generator())


def plain_grpo(objective: ObjectiveSpec, new, old, advantages, reference=None):  # type: ignore[no-untyped-def]
    """The textbook, token by token."""
    total = 0
    for i, length in enumerate(LENGTHS.tolist()):
        weight = {"dapo": 1 / int(LENGTHS.sum()), "grpo": 1 / (2 * length), "dr_grpo": 1 / (2 * 5)}[objective.loss_type]
        for t in range(length):
            ratio = torch.exp(new[i, t] - old[i, t])
            clipped = ratio.clamp(1 - objective.epsilon, 1 + (objective.epsilon_high or objective.epsilon))
            token = -torch.min(ratio * advantages[i], clipped * advantages[i])
            if reference is not None:
                gap = reference[i, t] - new[i, t]
                token = token + objective.beta * (torch.exp(gap) - gap - 1)
            total = total + weight * token
    return total


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
def test_full_equals_plain_grpo(loss_type: str, beta: float) -> None:
    source = torch.Generator().manual_seed(0)
    new, old, reference = (-torch.rand(2, 3, generator=source, dtype=torch.float64) for _ in range(3))
    new.requires_grad_()
    advantages = torch.tensor([0.9, -1.1], dtype=torch.float64)
    objective = ObjectiveSpec(loss_type=loss_type, beta=beta, epsilon=0.1, epsilon_high=0.25)
    ours = policy_loss(
        objective,
        new,
        old,
        advantages,
        LENGTHS,
        full(),
        ref_logprobs=reference if beta else None,
        max_completion_length=5,
    ).loss
    theirs = plain_grpo(objective, new, old, advantages, reference if beta else None)
    assert float((ours - theirs).detach().abs()) <= 1e-12
    (left,), (right,) = torch.autograd.grad(ours, new), torch.autograd.grad(theirs, new)
    assert float((left - right).abs().max()) <= 1e-12


def test_dapo_on_policy_by_hand() -> None:
    logprobs = torch.zeros(2, 3, dtype=torch.float64)
    found = policy_loss(
        ObjectiveSpec(), logprobs, logprobs, torch.tensor([1.0, -1.0], dtype=torch.float64), LENGTHS, full()
    )
    assert float(found.loss) == pytest.approx(-(2 * 1 - 3 * 1) / 5)


def test_clip_ratio_counts_tokens_where_the_clip_decides() -> None:
    new = torch.log(torch.tensor([[1.5, 1.0, 1.0], [1.5, 0.5, 1.0]], dtype=torch.float64))
    old = torch.zeros_like(new)
    # row 0, A>0: ratio 1.5 clipped. row 1, A<0: ratio 1.5 is not (pessimistic), ratio 0.5 is.
    found = policy_loss(ObjectiveSpec(), new, old, torch.tensor([1.0, -1.0], dtype=torch.float64), LENGTHS, full())
    assert float(found.metrics["clip_ratio"]) == 2


def test_k3_by_hand() -> None:
    new = torch.zeros(2, 3, dtype=torch.float64)
    reference = torch.full_like(new, math.log(2))
    found = policy_loss(
        ObjectiveSpec(beta=1.0), new, new, torch.zeros(2, dtype=torch.float64), LENGTHS, full(), ref_logprobs=reference
    )
    assert float(found.metrics["kl"]) == pytest.approx(5 * (2 - math.log(2) - 1))
    assert float(found.loss) == pytest.approx(2 - math.log(2) - 1)


def test_masked_truncated_rows_leave_the_loss_and_dapos_total() -> None:
    logprobs = torch.zeros(2, 3, dtype=torch.float64)
    arguments = (logprobs, logprobs, torch.tensor([1.0, -1.0], dtype=torch.float64), LENGTHS, full())
    truncated = torch.tensor([False, True])
    dapo = policy_loss(ObjectiveSpec(mask_truncated_completions=True), *arguments, truncated=truncated)
    assert float(dapo.loss) == pytest.approx(-2 / 2)
    grpo = policy_loss(
        ObjectiveSpec(loss_type="grpo", mask_truncated_completions=True), *arguments, truncated=truncated
    )
    assert float(grpo.loss) == pytest.approx(-1 / 2)  # still two completions


def test_what_is_not_kept_cannot_leak_nan() -> None:
    selection = full()
    keep = selection.keep.clone()
    keep[0, 1] = False
    part = DenseSelection(keep, selection.inclusion_prob, selection.kept_length, LENGTHS, True)
    logprobs = torch.zeros(2, 3, dtype=torch.float64)
    logprobs[0, 1] = -200.0
    logprobs.requires_grad_()
    found = policy_loss(
        ObjectiveSpec(), logprobs, torch.zeros(2, 3, dtype=torch.float64), torch.ones(2).double(), LENGTHS, part
    )
    (gradient,) = torch.autograd.grad(found.loss, logprobs)
    assert bool(torch.isfinite(gradient).all()) and float(gradient[0, 1]) == 0
