"""Rollouts: ragged prompts, ends, streams."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from nat_core.model import Policy
from nat_core.rollout import plain, slots
from nat_core.rollout.completion import Completion, Sampling
from nat_core.rollout.hf import generate, waits_for_the_longest
from nat_core.rollout.sampling import draw, uniforms
from tests.nat_core.builders import tiny_policy

SLIDING = {
    "layer_types": ["full_attention", "sliding_attention"], "use_sliding_window": True, "sliding_window": 64,
}  # fmt: skip
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]


def sample(policy: Policy, max_batch_size: int = 4, **changes: Any) -> list[list[Completion]]:
    return generate(policy, PROMPTS, dataclasses.replace(Sampling(3, 12, 1.0, seed=1), **changes), max_batch_size)


def test_groups_come_back_in_the_order_of_the_prompts_and_end_at_eos() -> None:
    groups = sample(tiny_policy(dtype=torch.float32))
    assert [len(group) for group in groups] == [3, 3, 3]
    for completion in (c for group in groups for c in group):
        assert 1 <= len(completion.ids) <= 12
        assert completion.truncated == (1 not in completion.ids)
        assert 1 not in completion.ids[:-1]


def test_the_seed_fixes_the_sample_and_leaves_other_streams_alone() -> None:
    policy = tiny_policy(dtype=torch.float32)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first = sample(policy)
    assert torch.rand(1).equal(expected)
    assert sample(policy) == first != sample(policy, seed=2)


def test_greedy_follows_the_argmax_whatever_the_padding() -> None:
    policy = tiny_policy(dtype=torch.float32)
    groups = sample(policy, num_samples=1, temperature=None, max_batch_size=8)
    for prompt, (completion,) in zip(PROMPTS, groups, strict=True):
        ids = list(prompt)
        for token in completion.ids:
            with torch.no_grad():
                assert int(policy.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)


def test_temperature_reaches_the_sampler() -> None:
    policy = tiny_policy(dtype=torch.float32)

    def ids(temperature: float | None) -> list[list[int]]:
        return [group[0].ids for group in sample(policy, temperature=temperature, num_samples=1)]

    assert ids(1e-7) == ids(None) != ids(5.0)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_rollout_logprobs_are_those_of_the_sampling_distribution(temperature: float) -> None:
    policy = tiny_policy(dtype=torch.float32)
    for prompt, group in zip(PROMPTS, sample(policy, temperature=temperature), strict=True):
        for completion in group:
            with torch.no_grad():
                logits = policy.model(input_ids=torch.tensor([prompt + completion.ids])).logits[0] / temperature
            expected = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
            picked = expected.gather(1, torch.tensor(completion.ids).unsqueeze(1)).squeeze(1)
            assert completion.logprobs == pytest.approx(picked.tolist(), abs=1e-5)


def test_greedy_completions_carry_no_logprobs() -> None:
    (completion,) = sample(tiny_policy(dtype=torch.float32), temperature=None, num_samples=1)[0]
    assert completion.logprobs == []


def test_greedy_completions_equal_those_of_transformers_generate() -> None:
    policy = tiny_policy()
    jobs = list(range(len(PROMPTS)))
    greedily = Sampling(1, 24, None, seed=0)
    with torch.no_grad():
        assert slots.sample(policy, PROMPTS, jobs, greedily, 2) == plain.sample(policy, PROMPTS, jobs, greedily, 2)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_completions_do_not_depend_on_who_is_sampled_beside_them(size: int) -> None:
    policy = tiny_policy()
    together = sample(policy, max_batch_size=100)
    apart = sample(policy, max_batch_size=size)
    assert [[c.ids for c in group] for group in apart] == [[c.ids for c in group] for group in together]
    for one, other in zip((c for g in apart for c in g), (c for g in together for c in g), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-6)


def test_rows_that_end_are_run_no_further_and_prompts_once() -> None:
    policy = tiny_policy()
    assert waits_for_the_longest(policy) is None  # tried out before passes are counted
    places: list[int] = []
    policy.model.get_decoder().register_forward_pre_hook(
        lambda _, __, arguments: places.append(arguments["input_ids"].numel()), with_kwargs=True
    )
    groups = generate(policy, [[5, 6, 7]], Sampling(64, 200, 1.0, seed=3), max_batch_size=64)
    lengths = sorted(len(completion.ids) for group in groups for completion in group)
    assert lengths[0] < lengths[-1] / 4  # ragged, else this shows nothing
    assert places[0] == 3
    assert sum(places[1:]) <= 1.15 * sum(lengths) < 0.6 * lengths[-1] * 64


def test_places_that_become_free_are_taken() -> None:
    policy = tiny_policy()
    rows: list[int] = []
    policy.model.get_decoder().register_forward_pre_hook(
        lambda _, __, arguments: rows.append(arguments["input_ids"].shape[0]), with_kwargs=True
    )
    prompts = [[5 + i % 20, 6, 7] for i in range(40)]
    groups = generate(policy, prompts, Sampling(2, 100, 1.0, seed=3), max_batch_size=16)
    lengths = [len(completion.ids) for group in groups for completion in group]
    in_turns = sum(max(lengths[start : start + 16]) for start in range(0, 80, 16))
    assert max(rows) <= 16
    assert len(rows) < 0.8 * in_turns


def test_models_with_a_cache_of_another_kind_go_by_transformers_generate() -> None:
    policy = tiny_policy()
    config = Qwen3Config(**{**policy.model.config.to_dict(), **SLIDING})
    policy.model = Qwen3ForCausalLM(config).eval()
    assert waits_for_the_longest(policy) == "its cache keeps something other than all keys and values"
    (group,) = generate(policy, [[5, 6, 7]], Sampling(3, 9, 1.0, seed=3), max_batch_size=3)
    assert [len(c.ids) == len(c.logprobs) for c in group] == [True] * 3
    assert waits_for_the_longest(tiny_policy(attention="eager")) == "attention is eager"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tokens_are_drawn_as_often_as_their_probability_says(temperature: float) -> None:
    logits = torch.tensor([2.0, -1.0, -torch.inf, 0.5, 3.0])
    grid = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    tokens, logprobs = draw(logits.expand(len(grid), -1), temperature, grid)
    probability = torch.softmax(logits.double() / temperature, -1)
    shares = torch.bincount(tokens, minlength=5) / len(grid)
    assert (shares - probability).abs().max() < 2e-5
    assert torch.allclose(logprobs.double().exp(), probability[tokens], atol=1e-6)


def test_the_largest_random_number_draws_the_last_possible_token() -> None:
    logits = torch.tensor([[0.0, 1.0, -torch.inf]])
    tokens, _ = draw(logits, 1.0, torch.tensor([1 - 2**-53], dtype=torch.float64))
    assert tokens.tolist() == [1]


def test_streams_of_random_numbers_differ_by_seed_and_completion() -> None:
    first = uniforms(1, 0, 1000)
    assert first.equal(uniforms(1, 0, 1000))
    assert first[:10].equal(uniforms(1, 0, 10))
    for other in (uniforms(2, 0, 1000), uniforms(1, 1, 1000), uniforms(0, 1, 1000)):
        assert abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) < 0.1
