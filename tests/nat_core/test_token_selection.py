"""Marginals, shapes and edges of every selector."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nat_core.errors import SpecError
from nat_core.spec import (
    BudgetSpec,
    CompletionsBudget,
    FullBudget,
    ImportanceBudget,
    RpcBudget,
    TopSurprisalBudget,
    TruncateBudget,
    UrsBudget,
)
from nat_core.token_selection import GradientMass, select_tokens
from nat_core.token_selection.laws import LAWS, Law, LinearLaw
from nat_core.token_selection.prefix import COUPLINGS
from nat_core.token_selection.probabilities import scaled_to_budget
from nat_core.token_selection.selection import Candidates, positions

BUDGETS = [
    FullBudget(),
    UrsBudget(fraction=0.3),
    UrsBudget(fraction=0.3, design="fixed"),
    CompletionsBudget(fraction=0.3),
    ImportanceBudget(fraction=0.3),
    TopSurprisalBudget(fraction=0.3),
    RpcBudget(fraction=0.5, law="linear"),
    RpcBudget(fraction=0.2, law="linear"),
    RpcBudget(fraction=0.5, law="uniform"),
    RpcBudget(fraction=0.8, law="uniform"),
    RpcBudget(fraction=0.3, law="optimal"),
    RpcBudget(fraction=0.9, law="optimal", floor=0.05),
]
PREFIX_CUTS = [budget for budget in BUDGETS if isinstance(budget, RpcBudget)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def law_state(bins: int = 64) -> GradientMass:
    """Earlier steps saw the gradient fall along a completion, unsteadily."""
    state = GradientMass()
    state.estimate = torch.linspace(3, 0.1, bins, dtype=torch.float64) * (
        1 + torch.rand(bins, generator=generator(8), dtype=torch.float64)
    )
    return state


def law_of(budget: RpcBudget) -> Law:
    return LAWS[budget.law](budget, Candidates(torch.tensor([5]), generator(), gradient_mass=law_state().estimate))


def survival(budget: RpcBudget, lengths: torch.Tensor) -> torch.Tensor:
    return law_of(budget).survival(lengths.double().unsqueeze(1), positions(lengths))


def cut_lengths(budget: RpcBudget, lengths: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    return law_of(budget).cut(lengths.double(), uniforms)


def test_full_keeps_every_real_token_with_weight_one() -> None:
    selection = select_tokens(FullBudget(), torch.tensor([3, 0, 5]), generator=generator())
    assert selection.keep.tolist() == [[True] * 3 + [False] * 2, [False] * 5, [True] * 5]
    assert selection.kept_length.tolist() == [3, 0, 5]
    assert selection.weights.equal(selection.keep.double())
    assert selection.fraction == 1.0 and selection.max_weight == 1.0 and selection.effective_sample_size == 1.0


def test_truncate_keeps_the_first_part_and_says_that_it_is_biased() -> None:
    selection = select_tokens(TruncateBudget(fraction=0.6), torch.tensor([10, 1, 3]), generator=generator())
    assert selection.kept_length.tolist() == [6, 1, 2]  # ceil(6), ceil(0.6), ceil(1.8)
    assert not selection.unbiased
    assert selection.weights.equal(selection.keep.double())


def test_uniform_law_at_half_has_the_papers_survival() -> None:
    probability = survival(RpcBudget(fraction=0.5, law="uniform"), torch.tensor([4]))
    assert probability.tolist() == [[1.0, 0.75, 0.5, 0.25]]


def test_uniform_law_above_half_always_keeps_the_start() -> None:
    # b = 0.8, T = 10: C = ceil(0.6 * 10) = 6, cut uniform on {6..10}
    probability = survival(RpcBudget(fraction=0.8, law="uniform"), torch.tensor([10]))[0]
    assert probability[:6].tolist() == [1.0] * 6
    assert probability[6:].tolist() == pytest.approx([0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("length", [1, 7, 1000])
@pytest.mark.parametrize("fraction", [0.05, 0.25, 0.5, 0.9, 1.0])
def test_linear_law_keeps_exactly_the_fraction_in_the_mean(fraction: float, length: int) -> None:
    probability = survival(RpcBudget(fraction=fraction, law="linear"), torch.tensor([length]))
    assert float(probability.mean()) == pytest.approx(fraction, abs=1e-12)


def test_linear_law_at_half_has_the_weights_the_method_note_states() -> None:
    probability = survival(RpcBudget(fraction=0.5, law="linear"), torch.tensor([1000]))[0]
    assert float((1 / probability).mean()) == pytest.approx(math.log(4) / 0.6, rel=0.01)
    assert float((1 / probability).max()) <= 1 / LinearLaw(0.5).ends[1]


def test_uniform_law_at_half_has_harmonic_mean_weight_and_worst_weight_t() -> None:
    probability = survival(RpcBudget(fraction=0.5, law="uniform"), torch.tensor([1000]))[0]
    assert float((1 / probability).mean()) == pytest.approx(sum(1 / k for k in range(1, 1001)))
    assert float((1 / probability).max()) == pytest.approx(1000)


@pytest.mark.parametrize("budget", PREFIX_CUTS, ids=lambda b: b.label)
def test_cut_lengths_follow_survival_over_a_fine_grid_of_uniforms(budget: RpcBudget) -> None:
    grid = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    for length in (1, 2, 5, 33):
        cuts = cut_lengths(budget, torch.full((len(grid),), length), grid)
        shares = torch.stack([(cuts >= t).double().mean() for t in range(1, length + 1)])
        assert torch.allclose(shares, survival(budget, torch.tensor([length]))[0], atol=1e-5)


@pytest.mark.parametrize("budget", PREFIX_CUTS, ids=lambda b: b.label)
def test_prefix_cut_marginals_stay_in_a_dvoretzky_kiefer_wolfowitz_band(budget: RpcBudget) -> None:
    draws, lengths = 20_000, torch.tensor([1, 2, 3, 17, 100, 511, 4096])
    source = generator(3)
    uniforms = torch.rand(draws * len(lengths), generator=source, dtype=torch.float64)
    cuts = cut_lengths(budget, lengths.repeat(draws), uniforms).view(draws, len(lengths))
    band = math.sqrt(math.log(2 / 1e-6) / (2 * draws))
    expected = survival(budget, lengths)
    for row, length in enumerate(lengths.tolist()):
        counts = torch.bincount(cuts[:, row], minlength=length + 1).double()
        at_least = counts.flip(0).cumsum(0).flip(0)[1 : length + 1] / draws
        assert float((at_least - expected[row, :length]).abs().max()) <= band


@pytest.mark.parametrize("longest", [64, pytest.param(4096, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "budget",
    [
        UrsBudget(fraction=0.3),
        UrsBudget(fraction=0.3, design="fixed"),
        ImportanceBudget(fraction=0.3),
        CompletionsBudget(fraction=0.3),
    ],
    ids=lambda b: b.label,
)
def test_marginals_are_the_stated_probabilities_at_every_position(budget: BudgetSpec, longest: int) -> None:
    # copies of three completions, drawn again and again: 20,000 independent draws of each position
    copies = 12_800 // longest
    lengths, draws, source = torch.tensor([1, 5, longest]), 20_000, generator(5)
    total = torch.zeros(3, longest, dtype=torch.float64)
    arguments = {
        "advantages": torch.tensor([2.0, -1.0, 0.5]).repeat(copies),
        "surprisal": (torch.rand(3, longest, generator=generator(1)) * 3).repeat(copies, 1),
        "token_weight": torch.full((3 * copies,), 1 / 70),
    }
    times = -(-draws // copies)
    for _ in range(times):
        selection = select_tokens(budget, lengths.repeat(copies), generator=source, **arguments)
        total += selection.keep.view(copies, 3, longest).sum(0)
    p, real = selection.inclusion_prob[:3], torch.arange(longest) < lengths.unsqueeze(1)
    assert float((p * real).sum()) == pytest.approx(0.3 * (6 + longest), rel=1e-6)
    z = (total / (copies * times) - p) / torch.sqrt(p * (1 - p) / (copies * times)).clamp(min=1e-9)
    assert float(z[real].abs().max()) <= 6
    assert float(total[~real].max()) == 0


def test_fixed_design_keeps_floor_or_ceil_of_its_share() -> None:
    lengths, source = torch.tensor([10, 7, 1, 0]), generator(4)
    for _ in range(200):
        kept = select_tokens(UrsBudget(fraction=0.35, design="fixed"), lengths, generator=source).keep.sum(1).tolist()
        assert kept[0] in (3, 4) and kept[1] in (2, 3) and kept[2] in (0, 1) and kept[3] == 0


def test_importance_prefers_surprising_tokens_of_large_advantage() -> None:
    selection = select_tokens(
        ImportanceBudget(fraction=0.5, floor=0.1),
        torch.tensor([2, 2]),
        generator=generator(),
        advantages=torch.tensor([2.0, 1.0]),
        surprisal=torch.tensor([[3.0, 0.1], [3.0, 0.1]]),
    )
    p = selection.inclusion_prob
    assert p[0, 0] > p[1, 0] > p[0, 1] > p[1, 1] >= 0.05
    score = (1 - torch.exp(-torch.tensor([0.1, 3.0], dtype=torch.float64))) * torch.tensor([2.0, 1.0])
    assert float(p[0, 1] / p[1, 0]) == pytest.approx(float(score[0] / score[1]))  # neither capped nor floored


def test_top_surprisal_keeps_the_least_likely_tokens() -> None:
    surprisal = torch.tensor([[0.1, 5.0, 9.0], [4.0, 0.2, 0.3]])
    lengths = torch.tensor([2, 3])  # the 9.0 is padding
    selection = select_tokens(TopSurprisalBudget(fraction=0.4), lengths, generator=generator(), surprisal=surprisal)
    assert selection.keep.tolist() == [[False, True, False], [True, False, False]]


def test_top_surprisal_keeps_the_share_and_no_token_more() -> None:
    surprisal = torch.arange(100, dtype=torch.float64).view(4, 25)
    for fraction, count in ((0.07, 7), (0.55, 55), (0.0701, 8)):  # 0.07 * 100 is 7.000000000000001
        budget = TopSurprisalBudget(fraction=fraction)
        chosen = select_tokens(budget, torch.full((4,), 25), generator=generator(), surprisal=surprisal)
        assert chosen.num_kept == count


@pytest.mark.parametrize("budget", [ImportanceBudget(), TopSurprisalBudget()], ids=lambda b: b.label)
def test_selectors_that_need_logprobs_say_so(budget: BudgetSpec) -> None:
    with pytest.raises(SpecError, match="needs the rollout's log-probabilities"):
        select_tokens(budget, torch.tensor([3]), generator=generator())


def test_completions_keeps_or_drops_whole_ones_by_what_they_weigh() -> None:
    selection = select_tokens(
        CompletionsBudget(fraction=0.5, floor=0.1),
        torch.tensor([4, 4, 8]),
        generator=generator(),
        advantages=torch.tensor([1.0, 2.0, 0.0]),
        cost=torch.ones(3, 8),
    )
    p = selection.inclusion_prob[:, 0]
    assert float(p[2]) == pytest.approx(0.05)  # the floor: it may matter to the KL term
    # the rest shares 0.5 * 16 - 0.05 * 8 = 7.6 of 8 tokens; twice the advantage is capped at 1
    assert p[:2].tolist() == pytest.approx([0.9, 1.0])
    assert all(len(set(row[:n].tolist())) == 1 for row, n in zip(selection.keep, (4, 4, 8), strict=True))


def lognormal_lengths(count: int) -> torch.Tensor:
    drawn = torch.empty(count, dtype=torch.float64).log_normal_(math.log(600), 1, generator=generator(20))
    return drawn.clamp(1, 4096).round().long()


def cost_variation(budget: RpcBudget, draws: int = 400) -> float:
    lengths, source, coupling = lognormal_lengths(256), generator(9), COUPLINGS[budget.coupling]
    kept = []
    for _ in range(draws):
        base = torch.rand(coupling.num_base(256), generator=source, dtype=torch.float64)
        kept.append(float(cut_lengths(budget, lengths, coupling.spread(base, lengths)).sum()))
    totals = torch.tensor(kept)
    return float(totals.std() / totals.mean())


def test_antithetic_cuts_steady_the_cost_at_one_half() -> None:
    assert cost_variation(RpcBudget(fraction=0.5, coupling="antithetic")) <= 0.005
    assert 0.04 <= cost_variation(RpcBudget(fraction=0.5, coupling="iid")) <= 0.1


def test_systematic_cuts_steady_the_cost_at_one_quarter() -> None:
    iid = cost_variation(RpcBudget(fraction=0.25, coupling="iid"))
    assert cost_variation(RpcBudget(fraction=0.25, coupling="systematic")) <= iid / 2.5


@settings(max_examples=200, deadline=None)
@given(
    score=st.lists(st.floats(0, 1e6), min_size=1, max_size=30),
    fraction=st.floats(0.01, 1.0),
    floor=st.floats(0.01, 1.0),
    seed=st.integers(0, 1000),
)
def test_scaled_to_budget_spends_the_budget_within_its_bounds(
    score: list[float], fraction: float, floor: float, seed: int
) -> None:
    cost = torch.rand(len(score), generator=generator(seed), dtype=torch.float64) + 0.1
    p = scaled_to_budget(torch.tensor(score, dtype=torch.float64), cost, fraction, floor)
    assert float(p.min()) >= floor * fraction * (1 - 1e-9) and float(p.max()) <= 1
    assert float((p * cost).sum()) == pytest.approx(fraction * float(cost.sum()), rel=1e-6)


def test_a_selection_is_reproducible_and_fresh_at_every_draw() -> None:
    lengths, budget = torch.full((64,), 40), RpcBudget(fraction=0.5)
    one, two = generator(1), generator(1)
    first = select_tokens(budget, lengths, generator=one)
    assert first.kept_length.equal(select_tokens(budget, lengths, generator=two).kept_length)
    assert not first.kept_length.equal(select_tokens(budget, lengths, generator=one).kept_length)


def test_rows_picks_the_same_completions_everywhere() -> None:
    selection = select_tokens(RpcBudget(), torch.tensor([4, 9, 2]), generator=generator())
    part = selection.rows(torch.tensor([2, 0]))
    assert part.lengths.tolist() == [2, 4]
    assert part.keep.equal(selection.keep[[2, 0]]) and part.kept_length.equal(selection.kept_length[[2, 0]])


fractions = st.floats(0.001, 1.0, exclude_min=False)
budget_specs = st.one_of(
    st.builds(UrsBudget, fraction=fractions),
    st.builds(UrsBudget, fraction=fractions, design=st.just("fixed")),
    st.builds(RpcBudget, fraction=fractions, law=st.just("linear"), coupling=st.sampled_from(sorted(COUPLINGS))),
    st.builds(
        RpcBudget, fraction=st.floats(0.5, 1.0), law=st.just("uniform"), coupling=st.sampled_from(sorted(COUPLINGS))
    ),
    st.builds(RpcBudget, fraction=fractions, law=st.just("optimal"), floor=st.floats(0.01, 1.0)),
    st.builds(CompletionsBudget, fraction=fractions, floor=st.floats(0.01, 1.0)),
    st.builds(ImportanceBudget, fraction=fractions, floor=st.floats(0.01, 1.0)),
    st.builds(TopSurprisalBudget, fraction=fractions),
    st.builds(TruncateBudget, fraction=fractions),
    st.just(FullBudget()),
)


@settings(max_examples=300, deadline=None)
@given(budget=budget_specs, lengths=st.lists(st.integers(0, 300), max_size=12), seed=st.integers(0, 2**31))
def test_no_selection_has_a_zero_probability_or_keeps_padding(
    budget: BudgetSpec, lengths: list[int], seed: int
) -> None:
    count, longest, source = len(lengths), max(lengths, default=0), generator(seed + 1)
    selection = select_tokens(
        budget,
        torch.tensor(lengths, dtype=torch.long),
        generator=generator(seed),
        advantages=torch.randn(count, generator=source),
        surprisal=torch.rand(count, longest, generator=source) * 20,
        cost=torch.rand(count, longest, generator=source) * 1e9,
        law_state=law_state(),
    )
    assert bool((selection.inclusion_prob > 0).all()) and bool((selection.inclusion_prob <= 1).all())
    assert bool(torch.isfinite(selection.weights).all())
    for row, length in enumerate(lengths):
        kept = selection.keep[row].nonzero().flatten().tolist()
        assert selection.kept_length[row] == (kept[-1] + 1 if kept else 0) <= length
    assert 0 <= selection.fraction <= 1


def test_budgets_survive_their_json() -> None:
    adapter: TypeAdapter[BudgetSpec] = TypeAdapter(BudgetSpec)
    for budget in BUDGETS:
        assert adapter.validate_json(adapter.dump_json(budget)) == budget
