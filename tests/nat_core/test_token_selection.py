"""Marginals, shapes and edges of every selector."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nat_core.spec import BudgetSpec, FullBudget, RpcBudget, TruncateBudget, UrsBudget
from nat_core.token_selection import cut_lengths, linear_ends, select_tokens, survival

BUDGETS = [
    FullBudget(),
    UrsBudget(fraction=0.3),
    RpcBudget(fraction=0.5, law="linear"),
    RpcBudget(fraction=0.2, law="linear"),
    RpcBudget(fraction=0.5, law="uniform"),
    RpcBudget(fraction=0.8, law="uniform"),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
    assert float((1 / probability).max()) <= 1 / linear_ends(0.5)[1]


def test_uniform_law_at_half_has_harmonic_mean_weight_and_worst_weight_t() -> None:
    probability = survival(RpcBudget(fraction=0.5, law="uniform"), torch.tensor([1000]))[0]
    assert float((1 / probability).mean()) == pytest.approx(sum(1 / k for k in range(1, 1001)))
    assert float((1 / probability).max()) == pytest.approx(1000)


@pytest.mark.parametrize("budget", [b for b in BUDGETS if isinstance(b, RpcBudget)], ids=lambda b: b.label)
def test_cut_lengths_follow_survival_over_a_fine_grid_of_uniforms(budget: RpcBudget) -> None:
    grid = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    for length in (1, 2, 5, 33):
        cuts = cut_lengths(budget, torch.full((len(grid),), length), grid)
        shares = torch.stack([(cuts >= t).double().mean() for t in range(1, length + 1)])
        assert torch.allclose(shares, survival(budget, torch.tensor([length]))[0], atol=1e-5)


@pytest.mark.parametrize("budget", [b for b in BUDGETS if isinstance(b, RpcBudget)], ids=lambda b: b.label)
def test_prefix_cut_marginals_stay_in_a_dvoretzky_kiefer_wolfowitz_band(budget: RpcBudget) -> None:
    draws, lengths = 20_000, torch.tensor([1, 2, 3, 17, 100, 511, 4096])
    source = generator(3)
    cuts = torch.stack(
        [
            cut_lengths(budget, lengths, torch.rand(len(lengths), generator=source, dtype=torch.float64))
            for _ in range(draws)
        ]
    )
    band = math.sqrt(math.log(2 / 1e-6) / (2 * draws))
    expected = survival(budget, lengths)
    for row, length in enumerate(lengths.tolist()):
        counts = torch.bincount(cuts[:, row], minlength=length + 1).double()
        at_least = counts.flip(0).cumsum(0).flip(0)[1 : length + 1] / draws
        assert float((at_least - expected[row, :length]).abs().max()) <= band


def test_urs_marginals_are_its_fraction_at_every_position() -> None:
    draws, lengths, fraction = 20_000, torch.tensor([1, 5, 64]), 0.3
    source, total = generator(5), torch.zeros(3, 64)
    for _ in range(draws):
        total += select_tokens(UrsBudget(fraction=fraction), lengths, generator=source).keep
    z = (total / draws - fraction) / math.sqrt(fraction * (1 - fraction) / draws)
    real = torch.arange(64) < lengths.unsqueeze(1)
    assert float(z[real].abs().max()) <= 6
    assert float(total[~real].max()) == 0


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
    st.builds(RpcBudget, fraction=fractions, law=st.just("linear")),
    st.builds(RpcBudget, fraction=st.floats(0.5, 1.0), law=st.just("uniform")),
    st.builds(TruncateBudget, fraction=fractions),
    st.just(FullBudget()),
)


@settings(max_examples=300, deadline=None)
@given(budget=budget_specs, lengths=st.lists(st.integers(0, 300), max_size=12), seed=st.integers(0, 2**31))
def test_no_selection_has_a_zero_probability_or_keeps_padding(
    budget: BudgetSpec, lengths: list[int], seed: int
) -> None:
    selection = select_tokens(budget, torch.tensor(lengths, dtype=torch.long), generator=generator(seed))
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
