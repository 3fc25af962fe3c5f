"""The estimator, proved by enumeration: averaged over every possible selection, loss and gradient are the full ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from nat_core.loss import policy_loss
from nat_core.spec import FullBudget, ObjectiveSpec, RpcBudget, TruncateBudget, UrsBudget
from nat_core.token_selection import TokenSelection, cut_lengths, select_tokens, survival

LENGTHS = torch.tensor([3, 1, 4])
WIDTH = 4

Weighted = tuple[float, TokenSelection]


def full_selection() -> TokenSelection:
    return select_tokens(FullBudget(), LENGTHS, generator=torch.Generator())


def all_urs(fraction: float) -> Iterator[Weighted]:
    full = full_selection()
    places = full.keep.nonzero().tolist()
    for bits in itertools.product([False, True], repeat=len(places)):
        keep = torch.zeros_like(full.keep)
        for (row, column), bit in zip(places, bits, strict=True):
            keep[row, column] = bit
        probability = fraction ** sum(bits) * (1 - fraction) ** (len(bits) - sum(bits))
        yield probability, selection_of(keep, torch.where(full.keep, fraction, 1.0).double())


def all_rpc(budget: RpcBudget) -> Iterator[Weighted]:
    """Every combination of cuts, with probabilities read off the cut function itself, not off `survival`."""
    grid = 24_000  # every breakpoint of these lengths and laws falls between grid points
    uniforms = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid
    per_row = []
    for length in LENGTHS.tolist():
        cuts = cut_lengths(budget, torch.full((grid,), length), uniforms)
        shares = torch.bincount(cuts, minlength=length + 1).double() / grid
        per_row.append([(float(share), cut) for cut, share in enumerate(shares) if share > 0])
    positions = torch.arange(1, WIDTH + 1)
    probability = torch.where(full_selection().keep, survival(budget, LENGTHS), 1.0)
    for combination in itertools.product(*per_row):
        weight = 1.0
        for share, _ in combination:
            weight *= share
        cuts = torch.tensor([cut for _, cut in combination])
        yield weight, selection_of(positions <= cuts.unsqueeze(1), probability)


def selection_of(keep: torch.Tensor, probability: torch.Tensor) -> TokenSelection:
    kept_length = (keep * torch.arange(1, WIDTH + 1)).amax(dim=1)
    return TokenSelection(keep, probability, kept_length, LENGTHS, True)


def loss_and_gradient(objective: ObjectiveSpec, selection: TokenSelection) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(11)

    def draw() -> torch.Tensor:
        return -torch.rand(3, WIDTH, generator=source, dtype=torch.float64) * 2

    logprobs, old, reference = draw().requires_grad_(), draw(), draw()
    found = policy_loss(
        objective,
        logprobs,
        old,
        torch.tensor([1.3, -0.7, 0.4], dtype=torch.float64),
        LENGTHS,
        selection,
        ref_logprobs=reference if objective.beta else None,
        max_completion_length=6,
    )
    (gradient,) = torch.autograd.grad(found.loss, logprobs)
    return found.loss.detach(), gradient


UNBIASED = [
    ("urs", lambda: all_urs(0.5)),
    ("urs_quarter", lambda: all_urs(0.25)),
    ("rpc_linear_half", lambda: all_rpc(RpcBudget(fraction=0.5, law="linear"))),
    ("rpc_linear_quarter", lambda: all_rpc(RpcBudget(fraction=0.25, law="linear"))),
    ("rpc_uniform_half", lambda: all_rpc(RpcBudget(fraction=0.5, law="uniform"))),
    ("rpc_uniform_three_quarters", lambda: all_rpc(RpcBudget(fraction=0.75, law="uniform"))),
]


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
@pytest.mark.parametrize(("name", "selections"), UNBIASED, ids=[name for name, _ in UNBIASED])
def test_average_over_all_selections_is_the_full_loss_and_gradient(
    name: str, selections: object, loss_type: str, beta: float
) -> None:
    objective = ObjectiveSpec(loss_type=loss_type, beta=beta, epsilon=0.2, epsilon_high=0.28)
    loss, gradient, mass = torch.zeros((), dtype=torch.float64), torch.zeros(3, WIDTH, dtype=torch.float64), 0.0
    for probability, selection in selections():  # type: ignore[operator]
        part_loss, part_gradient = loss_and_gradient(objective, selection)
        loss, gradient, mass = (
            loss + probability * part_loss,
            gradient + probability * part_gradient,
            mass + probability,
        )
    full_loss, full_gradient = loss_and_gradient(objective, full_selection())
    assert mass == pytest.approx(1, abs=1e-12)
    assert torch.allclose(loss, full_loss, rtol=0, atol=1e-9)
    assert torch.allclose(gradient, full_gradient, rtol=0, atol=1e-9)
    assert float(full_gradient.abs().max()) > 1e-3


def test_truncate_is_not_the_full_gradient() -> None:
    selection = select_tokens(TruncateBudget(fraction=0.5), LENGTHS, generator=torch.Generator())
    _, gradient = loss_and_gradient(ObjectiveSpec(), selection)
    _, full = loss_and_gradient(ObjectiveSpec(), full_selection())
    assert float((gradient - full).abs().max()) > 1e-2


def test_urs_draws_follow_the_enumerated_probabilities() -> None:
    """Ties the sampler to the enumeration above: each mask of one short completion is equally likely at one half."""
    lengths, source, draws = torch.tensor([3]), torch.Generator().manual_seed(2), 16_000
    seen = torch.zeros(8)
    for _ in range(draws):
        keep = select_tokens(UrsBudget(fraction=0.5), lengths, generator=source).keep[0]
        seen[int((keep * torch.tensor([4, 2, 1])).sum())] += 1
    assert float(((seen / draws - 1 / 8) / (7 / 64 / draws) ** 0.5).abs().max()) <= 6
