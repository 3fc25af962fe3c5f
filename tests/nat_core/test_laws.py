"""The law that learns: its fit, its state, and what it makes of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from nat_core.cost import TokenCost
from nat_core.spec import RpcBudget, UrsBudget
from nat_core.token_selection import GradientMass, TokenSelection, select_tokens
from nat_core.token_selection.cumulative import by_relative_position, cumulative
from nat_core.token_selection.gradient_mass import BINS, DECAY
from nat_core.token_selection.laws import CurveLaw, falling_fit
from nat_core.token_selection.selection import positions

LENGTHS = torch.tensor([1, 2, 9, 64, 100, 513])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learned(estimate: torch.Tensor) -> GradientMass:
    state = GradientMass()
    state.estimate = estimate.double()
    return state


def survival_of(budget: RpcBudget, state: GradientMass | None, cost: torch.Tensor | None = None) -> torch.Tensor:
    return select_tokens(budget, LENGTHS, generator=generator(), law_state=state, cost=cost).inclusion_prob


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(-100, 100), min_size=1, max_size=40), seed=st.integers(0, 999))
def test_falling_fit_is_the_isotonic_regression_of_scipy(values: list[float], seed: int) -> None:
    weights = torch.rand(len(values), generator=generator(seed), dtype=torch.float64) + 0.01
    ours = falling_fit(torch.tensor(values, dtype=torch.float64), weights)
    theirs = isotonic_regression(values, weights=weights.numpy(), increasing=False).x
    assert ours.tolist() == pytest.approx(theirs.tolist(), abs=1e-9)


def test_relative_positions_split_a_token_where_an_edge_cuts_it() -> None:
    values = torch.tensor([[4.0, 8.0, 2.0], [6.0, 99.0, 99.0], [99.0, 99.0, 99.0]])
    lengths = torch.tensor([3, 1, 0])
    parts = by_relative_position(cumulative(values, lengths), lengths, 2)
    assert parts.tolist() == [4 + 4 + 3, 4 + 2 + 3]


def test_costs_as_a_function_are_those_of_each_token_summed() -> None:
    flops = TokenCost(trunk_weights=70, attention_width=3, head_weights=11)
    prompts = torch.tensor([5, 1, 40, 7, 300, 2]).double().unsqueeze(1)
    ends = prompts + torch.arange(int(LENGTHS.max()) + 1)
    by_token = flops.trunk(ends).diff(dim=1) + flops.head(1)
    by_token[:, 0] += flops.trunk(prompts.squeeze(1))
    total, summed = flops.of_completions(prompts), cumulative(by_token, LENGTHS)
    whole = torch.minimum(torch.tensor([0, 1, 2, 9, 64, 513]), LENGTHS.unsqueeze(1)).double()
    assert torch.allclose(total(whole), summed(whole), rtol=1e-14, atol=0)
    budget, state = RpcBudget(law="optimal"), learned(torch.linspace(5, 1, BINS))
    chances = [
        select_tokens(budget, LENGTHS, generator=generator(), law_state=state, cost=cost).inclusion_prob
        for cost in (by_token, total, None)
    ]
    assert torch.allclose(chances[0], chances[1], atol=1e-3) and not torch.allclose(chances[0], chances[2], atol=1e-3)


def test_sharers_bear_a_prompt_s_matrices_together_and_its_attention_each() -> None:
    flops, first = TokenCost(trunk_weights=70, attention_width=3, head_weights=11), torch.ones(1, 1)
    alone, shared = (flops.of_completions(torch.tensor([[40.0]]), sharers)(first) for sharers in (1, 8))
    assert float(alone - shared) == pytest.approx(flops.linear(40) * 7 / 8)


def test_without_an_earlier_step_the_law_is_linear() -> None:
    optimal, linear = RpcBudget(fraction=0.3, law="optimal"), RpcBudget(fraction=0.3, law="linear")
    assert survival_of(optimal, GradientMass()).equal(survival_of(linear, None))
    assert survival_of(optimal, learned(torch.zeros(BINS))).equal(survival_of(linear, None))


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5, 0.9, 1.0])
def test_the_mean_is_the_fraction_for_every_length_and_no_weight_is_above_its_bound(fraction: float) -> None:
    budget = RpcBudget(fraction=fraction, law="optimal", floor=0.3)
    probability = survival_of(budget, learned(torch.linspace(5, 0, BINS).square()))
    for row, length in zip(probability, LENGTHS.tolist(), strict=True):
        assert float(row[:length].mean()) == pytest.approx(fraction, rel=1e-9)
        assert bool((row[:length].diff() <= 1e-12).all())
        assert float(row[:length].min()) >= 0.3 * fraction * (1 - 1e-9)


def test_equal_mass_and_cost_everywhere_make_a_flat_law() -> None:
    probability = survival_of(RpcBudget(fraction=0.4, law="optimal"), learned(torch.ones(BINS)))
    real = torch.arange(513) < LENGTHS.unsqueeze(1)
    assert torch.allclose(probability[real], torch.tensor(0.4, dtype=torch.float64))


def test_rising_mass_cannot_be_followed_and_is_pooled_flat() -> None:
    """Survival cannot rise: where the gradient lies at the end, keeping whole completions is the best there is."""
    probability = survival_of(RpcBudget(fraction=0.4, law="optimal"), learned(torch.linspace(0.1, 5, BINS)))
    assert torch.allclose(probability[-1], torch.tensor(0.4, dtype=torch.float64))


def test_dearer_positions_are_kept_less() -> None:
    mass, flat = learned(torch.ones(BINS)), torch.ones(6, 513)
    rising = flat * torch.linspace(1, 9, 513)
    budget = RpcBudget(fraction=0.4, law="optimal")
    assert survival_of(budget, mass, flat)[-1].std() < 1e-9
    probability = survival_of(budget, mass, rising)[-1]
    assert probability[0] > 1.5 * probability[-1]


def test_the_law_beats_linear_and_flat_where_mass_and_cost_are_as_it_learned() -> None:
    """It minimises sum a / S at a given sum cost S: no other law of the same cost does better."""
    mass = (torch.linspace(3, 0.2, BINS).square() + 0.1).double()
    curve = CurveLaw(torch.linspace(0.8, 0.2, BINS, dtype=torch.float64))
    length = torch.tensor([[640.0]], dtype=torch.float64)
    place = positions(torch.tensor([640]))
    optimal = survival_of_one(RpcBudget(fraction=0.5, law="optimal", floor=0.01), learned(mass), 640)
    linear = survival_of_one(RpcBudget(fraction=0.5), None, 640)
    token_mass = mass.repeat_interleave(10)

    def variance(survival: torch.Tensor) -> float:
        return float((token_mass / survival).sum())

    assert variance(optimal) < variance(linear)
    assert variance(optimal) < variance(torch.full((640,), 0.5, dtype=torch.float64))
    assert variance(optimal) < variance(curve.survival(length, place)[0])


def survival_of_one(budget: RpcBudget, state: GradientMass | None, length: int) -> torch.Tensor:
    return select_tokens(budget, torch.tensor([length]), generator=generator(), law_state=state).inclusion_prob[0]


def observed(selection: TokenSelection, logprobs: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    state = GradientMass()
    state.observe(selection, logprobs, scale)
    state.finish_step()
    assert state.estimate is not None
    return state.estimate


def test_mass_by_hand() -> None:
    lengths = torch.tensor([2])
    selection = select_tokens(UrsBudget(fraction=1.0), lengths, generator=generator())
    estimate = observed(selection, torch.log(torch.tensor([[0.5, 0.9]])), torch.tensor([3.0]))
    assert float(estimate[: BINS // 2].sum()) == pytest.approx((3 * 0.5) ** 2)
    assert float(estimate[BINS // 2 :].sum()) == pytest.approx((3 * 0.1) ** 2, rel=1e-5)


def test_mass_seen_through_a_budget_is_unbiased() -> None:
    logprobs, scale = -torch.rand(6, 513, generator=generator(1)), torch.rand(6, generator=generator(2))
    everything = select_tokens(UrsBudget(fraction=1.0), LENGTHS, generator=generator())
    expected, total, draws, source = (
        observed(everything, logprobs, scale),
        torch.zeros(BINS).double(),
        3000,
        generator(3),
    )
    squares = torch.zeros(BINS).double()
    for _ in range(draws):
        part = observed(select_tokens(RpcBudget(fraction=0.5), LENGTHS, generator=source), logprobs, scale)
        total, squares = total + part, squares + part.square()
    mean = total / draws
    spread = ((squares / draws - mean.square()).clamp(min=0) / draws).sqrt()
    assert float(((mean - expected).abs() / (spread + 1e-12)).max()) <= 6


def test_a_step_counts_from_the_next_one_on_and_old_ones_fade() -> None:
    state, lengths = GradientMass(), torch.tensor([64])
    selection = select_tokens(UrsBudget(fraction=1.0), lengths, generator=generator())
    state.observe(selection, torch.full((1, 64), -100.0), torch.tensor([1.0]))
    assert state.estimate is None
    state.finish_step()
    assert state.estimate is not None and torch.allclose(state.estimate, torch.ones(BINS).double())
    state.observe(selection, torch.full((1, 64), -100.0), torch.tensor([2.0]))
    state.finish_step()
    assert torch.allclose(state.estimate, torch.full((BINS,), DECAY + (1 - DECAY) * 4).double())


def test_its_state_survives_a_checkpoint_to_the_bit() -> None:
    state, other = learned(torch.rand(BINS, generator=generator(5), dtype=torch.float64) / 3), GradientMass()
    other.load_state_dict(state.state_dict())
    assert other.estimate is not None and state.estimate is not None and other.estimate.equal(state.estimate)
    other.load_state_dict(GradientMass().state_dict())
    assert other.estimate is None
