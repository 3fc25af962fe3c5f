"""The estimator, proved by enumeration: averaged over every possible selection, loss and gradient are the full ones.

The enumerations are built from the samplers themselves: prefix cuts from `cut_lengths` and the couplings between the
breakpoints of their base uniforms, the others from every subset with its probability. Inclusion probabilities come
from the selector under test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from torch import Tensor

from nat_core.errors import SpecError
from nat_core.loss import policy_loss
from nat_core.spec import (
    BudgetSpec,
    CompletionsBudget,
    FullBudget,
    ImportanceBudget,
    ObjectiveSpec,
    RpcBudget,
    TopSurprisalBudget,
    TruncateBudget,
    UrsBudget,
)
from nat_core.token_selection import DenseSelection, GradientMass, TokenSelection, select_tokens
from nat_core.token_selection.cumulative import cumulative
from nat_core.token_selection.laws import LAWS, Law
from nat_core.token_selection.prefix import COUPLINGS
from nat_core.token_selection.selection import Candidates

LENGTHS = torch.tensor([3, 1, 4])
WIDTH = 4
ADVANTAGES = torch.tensor([1.3, -0.7, 0.4], dtype=torch.float64)
SURPRISAL = torch.tensor([[0.1, 2.0, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0], [0.3, 0.01, 3.0, 0.7]], dtype=torch.float64)

COST = torch.tensor([[5.0, 1.0, 2.0, 0.0], [5.0, 0.0, 0.0, 0.0], [5.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
TOKEN_WEIGHT = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
# Log-probabilities of the policy, of the old one, of the reference and of the engine; entropies.
NUMBERS = -2 * torch.rand(5, 3, WIDTH, generator=torch.Generator().manual_seed(11), dtype=torch.float64)

Weighted = tuple[float, TokenSelection]


def law_state() -> GradientMass:
    """Earlier steps saw the gradient fall, rise and fall along a completion."""
    state = GradientMass()
    state.estimate = torch.cos(torch.arange(64, dtype=torch.float64) / 7).square() * torch.linspace(3, 0.2, 64)
    return state


def draw(budget: BudgetSpec, generator: torch.Generator | None = None) -> TokenSelection:
    return select_tokens(
        budget,
        LENGTHS,
        generator=generator or torch.Generator().manual_seed(0),
        advantages=ADVANTAGES,
        surprisal=SURPRISAL,
        token_weight=TOKEN_WEIGHT,
        cost=COST,
        law_state=law_state(),
    )


def law_of(budget: RpcBudget) -> Law:
    return LAWS[budget.law](
        budget,
        Candidates(LENGTHS, torch.Generator(), cost=cumulative(COST, LENGTHS), gradient_mass=law_state().estimate),
    )


FULL = draw(FullBudget())


def selection_of(keep: Tensor, probability: Tensor) -> TokenSelection:
    kept_length = (keep * torch.arange(1, WIDTH + 1)).amax(dim=1)
    return DenseSelection(keep, probability, kept_length, LENGTHS, True)


def independent_tokens(budget: BudgetSpec) -> Iterator[Weighted]:
    probability = draw(budget).inclusion_prob
    places = FULL.keep.nonzero().tolist()
    for bits in itertools.product([False, True], repeat=len(places)):
        keep, chance = torch.zeros_like(FULL.keep), 1.0
        for (row, column), bit in zip(places, bits, strict=True):
            keep[row, column] = bit
            p = float(probability[row, column])
            chance *= p if bit else 1 - p
        yield chance, selection_of(keep, probability)


def fixed_size(budget: UrsBudget) -> Iterator[Weighted]:
    """Every subset of floor(bT) or ceil(bT) tokens of each completion, equally likely within a size."""
    probability = draw(budget).inclusion_prob
    per_row = []
    for length in LENGTHS.tolist():
        low = int(budget.fraction * length)
        share = budget.fraction * length - low
        options: list[tuple[float, tuple[int, ...]]] = []
        for size, chance in ((low, 1 - share), (low + 1, share)):
            subsets = list(itertools.combinations(range(length), size)) if chance > 0 else []
            options += [(chance / len(subsets), subset) for subset in subsets]
        per_row.append(options)
    for combination in itertools.product(*per_row):
        keep, chance = torch.zeros_like(FULL.keep), 1.0
        for row, (part, subset) in enumerate(combination):
            keep[row, list(subset)] = True
            chance *= part
        yield chance, selection_of(keep, probability)


def whole_completions(budget: CompletionsBudget) -> Iterator[Weighted]:
    probability = draw(budget).inclusion_prob
    for bits in itertools.product([False, True], repeat=3):
        chance = 1.0
        for row, bit in enumerate(bits):
            p = float(probability[row, 0])
            chance *= p if bit else 1 - p
        yield chance, selection_of(FULL.keep & torch.tensor(bits).unsqueeze(1), probability)


def prefix_cuts(budget: RpcBudget) -> Iterator[Weighted]:
    """Cut every base uniform's range at the breakpoints that the coupling can make of it; cuts are constant between."""
    law, coupling, rows = law_of(budget), COUPLINGS[budget.coupling], len(LENGTHS)
    probability = draw(budget).inclusion_prob
    pieces = _pieces(budget)
    assert len(pieces) <= 120
    for combination in itertools.product(pieces, repeat=coupling.num_base(rows)):
        base = torch.tensor([middle for _, middle in combination], dtype=torch.float64)
        chance = 1.0
        for width, _ in combination:
            chance *= width
        cuts = law.cut(LENGTHS.double(), coupling.spread(base, LENGTHS))
        yield chance, selection_of(torch.arange(1, WIDTH + 1) <= cuts.unsqueeze(1), probability)


def _pieces(budget: RpcBudget) -> list[tuple[float, float]]:
    """(width, middle) of the intervals of [0, 1) on which no cut changes, whichever row the uniform serves."""
    thresholds = draw(budget).inclusion_prob[FULL.keep].tolist()
    if budget.law == "uniform":  # there the cut rises with u: K >= t iff u >= 1 - S(t)
        thresholds = [1 - s for s in thresholds]
    golden = (5**0.5 - 1) / 2
    shifts = [rank * golden for rank in range(len(LENGTHS))] if budget.coupling == "systematic" else [0.0]
    points = {(t - shift) % 1 for t in thresholds for shift in shifts} | {(-shift) % 1 for shift in shifts}
    if budget.coupling == "antithetic":
        points |= {(1 - point) % 1 for point in points}
    ordered = sorted({round(point, 12) for point in points} | {0.0, 1.0})
    return [(b - a, (a + b) / 2) for a, b in itertools.pairwise(ordered) if b - a > 1e-11]


def loss_and_gradient(
    objective: ObjectiveSpec, selection: TokenSelection, split: tuple[tuple[int, ...], ...] = ((0, 1, 2),)
) -> tuple[Tensor, Tensor]:
    """Loss, and gradient by log-probability and entropy [2, 3, T], summed over micro-batches of these rows."""
    old, reference, rollout = NUMBERS[1:4]

    def loss(logprobs: Tensor, entropy: Tensor) -> Tensor:
        parts = [
            policy_loss(
                objective,
                logprobs[rows],
                old[rows],
                ADVANTAGES[rows],
                LENGTHS[rows],
                selection.rows(rows),
                ref_logprobs=reference[rows] if objective.beta else None,
                rollout_logprobs=rollout[rows],
                entropy=entropy[rows],
                max_completion_length=6,
                total_tokens=int(LENGTHS.sum()),
                num_completions=3,
            ).loss
            for rows in map(torch.tensor, split)
        ]
        return torch.stack(parts).sum()

    gradient, value = torch.func.grad_and_value(loss, argnums=(0, 1))(NUMBERS[0], NUMBERS[4])
    return value, torch.stack(gradient)


_LAWS_AND_FRACTIONS = [("linear", 0.5), ("linear", 0.25), ("uniform", 0.5), ("uniform", 0.75), ("optimal", 0.4)]


def _cases() -> dict[str, Callable[[], Iterator[Weighted]]]:
    cases: dict[str, Callable[[], Iterator[Weighted]]] = {
        "full": lambda: iter([(1.0, FULL)]),
        "urs half": lambda: independent_tokens(UrsBudget(fraction=0.5)),
        "urs quarter": lambda: independent_tokens(UrsBudget(fraction=0.25)),
        "urs fixed": lambda: fixed_size(UrsBudget(fraction=0.4, design="fixed")),
        "importance": lambda: independent_tokens(ImportanceBudget(fraction=0.4)),
        "completions": lambda: whole_completions(CompletionsBudget(fraction=0.5)),
        "completions flat": lambda: whole_completions(CompletionsBudget(fraction=0.3, weighting="flat")),
    }
    for law, fraction in _LAWS_AND_FRACTIONS:
        for coupling in COUPLINGS:
            budget = RpcBudget(fraction=fraction, law=law, coupling=coupling)
            cases[f"rpc {law} {fraction} {coupling}"] = lambda budget=budget: prefix_cuts(budget)  # type: ignore[misc]
    return cases


CASES = _cases()


@cache
def selections(name: str) -> tuple[Weighted, ...]:
    """Every selection that can be, with its chance; equal masks once, with their chances added."""
    masks: dict[tuple[bool, ...], Weighted] = {}
    for chance, selection in CASES[name]():
        key = mask_of(selection)
        masks[key] = (chance + (masks[key][0] if key in masks else 0.0), selection)
    return tuple(masks.values())


def mask_of(selection: TokenSelection) -> tuple[bool, ...]:
    return tuple(selection.keep.flatten().tolist())


# Terms beside the plain policy loss, each with every loss type.
TERMS: dict[str, dict[str, object]] = {
    "plain": {},
    "k3": {"beta": 0.3},
    "entropy": {"entropy_coef": 0.2},
    "k2, entropy, rollout_is": {
        "beta": 0.3, "kl_estimator": "k2", "entropy_coef": 0.2, "rollout_is": "token", "rollout_is_cap": 1.5,
        "use_bias_correction_kl": True,
    },
}  # fmt: skip
OBJECTIVES = {
    f"{loss_type}, {term}": ObjectiveSpec(loss_type=loss_type, epsilon_high=0.28, **fields)  # type: ignore[arg-type]
    for loss_type in ("dapo", "grpo", "dr_grpo", "cispo")
    for term, fields in TERMS.items()
} | {"dapo, delta": ObjectiveSpec(delta=1.4)}
SEQUENCE_LEVEL = {
    f"gspo, {term}": ObjectiveSpec(loss_type="gspo", **fields)  # type: ignore[arg-type]
    for term, fields in TERMS.items()
} | {"dapo, rollout_is sequence": ObjectiveSpec(rollout_is="sequence", rollout_is_cap=1.5)}
WHOLE_COMPLETIONS = ("full", "completions", "completions flat")


def average(name: str, objective: ObjectiveSpec, split: tuple[tuple[int, ...], ...]) -> tuple[Tensor, Tensor, float]:
    """Of the loss and of the gradient, over every selection: each is worked out by itself, all of them at once."""
    found = selections(name)
    chances = torch.tensor([chance for chance, _ in found], dtype=torch.float64)
    probability = found[0][1].inclusion_prob
    assert all(selection.inclusion_prob.equal(probability) for _, selection in found)

    def of_one(keep: Tensor) -> tuple[Tensor, Tensor]:
        return loss_and_gradient(objective, selection_of(keep, probability), split)

    masks = torch.stack([selection.keep for _, selection in found])
    if objective.sequence_level:  # asks a selection whether it keeps whole completions, which one mask alone can answer
        losses, gradients = map(torch.stack, zip(*map(of_one, masks), strict=True))
    else:
        losses, gradients = torch.func.vmap(of_one)(masks)
    return chances @ losses, torch.tensordot(chances, gradients, 1), float(chances.sum())


@pytest.mark.parametrize(
    ("name", "objective"),
    [(name, objective) for name in CASES for objective in OBJECTIVES]
    + [(name, objective) for name in WHOLE_COMPLETIONS for objective in SEQUENCE_LEVEL],
)
def test_average_over_all_selections_is_the_full_loss_and_gradient(name: str, objective: str) -> None:
    spec = (OBJECTIVES | SEQUENCE_LEVEL)[objective]
    full_loss, full_gradient = loss_and_gradient(spec, FULL)
    assert float(full_gradient[0].abs().max()) > 1e-3
    assert bool(full_gradient[1].any()) == (spec.entropy_coef > 0)
    for split in (((0, 1, 2),), ((2,), (0, 1))):
        loss, gradient, mass = average(name, spec, split)
        assert mass == pytest.approx(1, abs=1e-9)
        assert torch.allclose(loss, full_loss, rtol=0, atol=1e-9)
        assert torch.allclose(gradient, full_gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("objective", SEQUENCE_LEVEL)
def test_ratios_of_whole_completions_refuse_parts_of_them(objective: str) -> None:
    with pytest.raises(SpecError, match="needs every token of a completion"):
        loss_and_gradient(SEQUENCE_LEVEL[objective], draw(RpcBudget(fraction=0.5)))


@pytest.mark.parametrize(
    "budget", [TruncateBudget(fraction=0.5), TopSurprisalBudget(fraction=0.5)], ids=lambda b: b.label
)
def test_the_biased_two_are_not_the_full_gradient(budget: BudgetSpec) -> None:
    selection = draw(budget)
    assert not selection.unbiased and 0 < selection.fraction < 1
    _, gradient = loss_and_gradient(ObjectiveSpec(), selection)
    _, full = loss_and_gradient(ObjectiveSpec(), FULL)
    assert float((gradient - full).abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        ("urs half", UrsBudget(fraction=0.5)),
        ("urs fixed", UrsBudget(fraction=0.4, design="fixed")),
        ("importance", ImportanceBudget(fraction=0.4)),
        ("completions", CompletionsBudget(fraction=0.5)),
        ("rpc linear 0.5 antithetic", RpcBudget(fraction=0.5, coupling="antithetic")),
        ("rpc linear 0.25 systematic", RpcBudget(fraction=0.25, coupling="systematic")),
        ("rpc uniform 0.75 iid", RpcBudget(fraction=0.75, law="uniform", coupling="iid")),
        ("rpc optimal 0.4 antithetic", RpcBudget(fraction=0.4, law="optimal")),
    ],
)
def test_the_sampler_draws_masks_as_often_as_the_enumeration_says(name: str, budget: BudgetSpec) -> None:
    """Ties sampler to proof: whole masks, not only marginals."""
    draws, source = 1500, torch.Generator().manual_seed(2)
    seen: dict[tuple[bool, ...], int] = {}
    for _ in range(draws):
        keep = draw(budget, source).keep
        key = tuple(keep.flatten().tolist())
        seen[key] = seen.get(key, 0) + 1
    expected = {mask_of(selection): chance for chance, selection in selections(name)}
    assert seen.keys() <= {key for key, chance in expected.items() if chance > 0}
    for key, chance in expected.items():
        spread = (max(chance * (1 - chance), 1e-12) / draws) ** 0.5
        assert abs(seen.get(key, 0) / draws - chance) <= 6 * spread + 1 / draws
