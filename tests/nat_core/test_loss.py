"""Losses against numbers worked by hand and a plain GRPO in a few lines."""

from __future__ import annotations

import math

import pytest
import torch

from nat_core.errors import SpecError
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


@pytest.mark.parametrize("loss_type", ["dapo", "cispo"])
@pytest.mark.parametrize(("new", "old", "reference"), [(-200.0, 0.0, 0.0), (0.0, -2000.0, 0.0), (-2000.0, 0.0, 0.0)])
def test_what_is_not_kept_cannot_leak_nan(new: float, old: float, reference: float, loss_type: str) -> None:
    selection = full()
    keep = selection.keep.clone()
    keep[0, 1] = False
    part = DenseSelection(keep, selection.inclusion_prob, selection.kept_length, LENGTHS, True)
    logprobs = torch.zeros(2, 3, dtype=torch.float64)
    logprobs[0, 1] = new
    logprobs.requires_grad_()
    before, initial = torch.zeros_like(logprobs), torch.zeros_like(logprobs)
    before[0, 1], initial[0, 1] = old, reference
    objective = ObjectiveSpec.model_validate({"loss_type": loss_type, "beta": 0.1})
    found = policy_loss(objective, logprobs, before, torch.ones(2).double(), LENGTHS, part, ref_logprobs=initial)
    assert all(map(math.isfinite, [float(found.loss.detach()), *map(float, found.metrics.values())]))
    (gradient,) = torch.autograd.grad(found.loss, logprobs)
    assert bool(torch.isfinite(gradient).all()) and float(gradient[0, 1]) == 0


def test_multiplying_by_the_weights_of_full_changes_no_bit() -> None:
    source = torch.Generator().manual_seed(4)
    new, old = (-torch.rand(2, 3, generator=source, dtype=torch.float64) for _ in range(2))
    advantages = torch.tensor([0.9, -1.1], dtype=torch.float64)
    ratio, advantage = torch.exp(new - old), advantages.unsqueeze(1)
    unweighted = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage) * (1 / 5)
    expected = torch.where(full().keep, unweighted, 0.0).sum()
    assert policy_loss(ObjectiveSpec(), new, old, advantages, LENGTHS, full()).loss.equal(expected)


def ratios(first: list[float], second: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """New and old log-probabilities with these ratios of new to old, from an old probability of 1/e."""
    new = torch.tensor([[*first, 1.0], second], dtype=torch.float64).log() - 1
    return new.requires_grad_(), torch.full_like(new, -1.0)


ADVANTAGES = torch.tensor([2.0, -1.0], dtype=torch.float64)


def test_cispo_caps_the_ratio_and_lets_every_token_learn() -> None:
    new, old = ratios([4.0, 0.5], [1.0, 7.0, 2.0])
    found = policy_loss(ObjectiveSpec(loss_type="cispo", epsilon_high=3.0), new, old, ADVANTAGES, LENGTHS, full())
    (gradient,) = torch.autograd.grad(found.loss, new)
    # -cap(ratio) * A / 5: 4 and 7 are capped at 3
    expected = [[-3 * 2 / 5, -0.5 * 2 / 5, 0], [1 / 5, 3 / 5, 2 / 5]]
    assert torch.allclose(gradient, torch.tensor(expected, dtype=torch.float64))
    assert float(found.metrics["clip_ratio"]) == 2


def test_gspo_has_one_ratio_a_completion_the_geometric_mean_of_its_tokens() -> None:
    new, old = ratios([4.0, 0.25], [8.0, 1.0, 1.0])
    found = policy_loss(ObjectiveSpec(loss_type="gspo"), new, old, ADVANTAGES, LENGTHS, full())
    # geometric means 1 and 2; the second has A < 0, where the larger ratio is the pessimistic one
    assert float(found.loss.detach()) == pytest.approx((-1 * 2 + 2 * 1) / 2)
    assert float(found.metrics["clip_ratio"]) == 0
    clipped = policy_loss(ObjectiveSpec(loss_type="gspo"), new, old, -ADVANTAGES, LENGTHS, full())
    assert float(clipped.metrics["clip_ratio"]) == 3  # every token of the second completion
    assert float(clipped.loss.detach()) == pytest.approx((1 * 2 - 1.2 * 1) / 2)


def test_delta_bounds_the_loss_of_negative_advantages() -> None:
    new, old = ratios([1.0, 1.0], [9.0, 1.0, 1.0])
    plain = policy_loss(ObjectiveSpec(), new, old, ADVANTAGES, LENGTHS, full()).loss
    bounded = policy_loss(ObjectiveSpec(delta=4.0), new, old, ADVANTAGES, LENGTHS, full()).loss
    assert float((plain - bounded).detach()) == pytest.approx((9 - 4) / 5)


def test_clip_ratio_counts_what_delta_bounds() -> None:
    """A bounded token has no gradient, like one that the clip decides."""
    new, old = ratios([1.0, 9.0], [9.0, 3.0, 1.0])
    found = policy_loss(ObjectiveSpec(delta=4.0), new, old, ADVANTAGES, LENGTHS, full())
    (gradient,) = torch.autograd.grad(found.loss, new)
    assert float(found.metrics["clip_ratio"]) == 2 == int((full().keep & (gradient == 0)).sum())


def test_k2_and_k1_by_hand() -> None:
    new = torch.zeros(2, 3, dtype=torch.float64)
    reference = torch.full_like(new, -0.5)
    found = policy_loss(
        ObjectiveSpec(beta=1.0, kl_estimator="k2"), new, new, torch.zeros(2).double(), LENGTHS, full(),
        ref_logprobs=reference,
    )  # fmt: skip
    assert float(found.loss) == pytest.approx(0.5**2 / 2)
    assert float(found.metrics["kl"]) == pytest.approx(5 * 0.125)
    assert float(found.metrics["kl_k1"]) == pytest.approx(5 * 0.5)


def test_entropy_bonus_is_the_mean_entropy_whatever_the_loss_type() -> None:
    new = torch.zeros(2, 3, dtype=torch.float64)
    entropy = torch.tensor([[1.0, 2.0, 99.0], [3.0, 4.0, 5.0]], dtype=torch.float64, requires_grad=True)
    for loss_type in ("dapo", "grpo", "dr_grpo", "cispo", "gspo"):
        objective = ObjectiveSpec(loss_type=loss_type, entropy_coef=0.1)
        found = policy_loss(objective, new, new, torch.zeros(2).double(), LENGTHS, full(), entropy=entropy)
        assert float(found.loss.detach()) == pytest.approx(-0.1 * 3)
        (gradient,) = torch.autograd.grad(found.loss, entropy)
        assert torch.allclose(gradient, torch.where(full().keep, -0.02, 0.0).double())


def test_rollout_correction_multiplies_the_policy_term_and_not_the_kl() -> None:
    old = torch.zeros(2, 3, dtype=torch.float64)
    rollout = -torch.log(torch.tensor([[0.5, 8.0, 1.0], [1.0, 2.0, 1.0]], dtype=torch.float64))  # old / rollout
    kl = {"beta": 1.0, "kl_estimator": "k2"}
    arguments = (old, old, ADVANTAGES, LENGTHS, full())
    reference = torch.full_like(old, -1.0)
    token = policy_loss(
        ObjectiveSpec(rollout_is="token", rollout_is_cap=3.0, **kl), *arguments,  # type: ignore[arg-type]
        rollout_logprobs=rollout, ref_logprobs=reference,
    )  # fmt: skip
    assert float(token.loss) == pytest.approx((-2 * (0.5 + 3) + 1 * (1 + 2 + 1)) / 5 + 0.5)
    assert float(token.metrics["rollout_is_ratio"]) == pytest.approx(0.5 + 3 + 1 + 2 + 1)
    sequence = policy_loss(
        ObjectiveSpec(rollout_is="sequence", rollout_is_cap=3.0), *arguments, rollout_logprobs=rollout
    )  # the products 4, capped at 3, and 2
    assert float(sequence.loss) == pytest.approx((-2 * 2 * 3 + 1 * 3 * 2) / 5)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_rollout_correction_changes_nothing_where_engine_and_trainer_agree(level: str) -> None:
    source = torch.Generator().manual_seed(1)
    new, old = (-torch.rand(2, 3, generator=source, dtype=torch.float64) for _ in range(2))
    new.requires_grad_()
    found = []
    for objective in (ObjectiveSpec(), ObjectiveSpec.model_validate({"rollout_is": level, "rollout_is_cap": 1.0})):
        loss = policy_loss(objective, new, old, ADVANTAGES, LENGTHS, full(), rollout_logprobs=old.clone()).loss
        found.append((loss, *torch.autograd.grad(loss, new)))
    assert all(plain.equal(corrected) for plain, corrected in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("objective", "missing"),
    [
        ({"beta": 0.1}, "reference's log-probabilities"),
        ({"rollout_is": "token"}, "rollout's log-probabilities"),
        ({"entropy_coef": 0.1}, "entropies"),
    ],
)
def test_what_the_objective_needs_is_asked_for(objective: dict[str, object], missing: str) -> None:
    logprobs = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(SpecError, match=missing):
        policy_loss(ObjectiveSpec.model_validate(objective), logprobs, logprobs, ADVANTAGES, LENGTHS, full())
