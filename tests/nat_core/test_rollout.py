"""Rollouts: ragged prompts, ends, streams."""

from __future__ import annotations

import pytest
import torch

from nat_core.model import Policy
from nat_core.rollout.hf import Completion, generate
from tests.nat_core.builders import tiny_policy

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]


def sample(policy: Policy, **changes: object) -> list[list[Completion]]:
    arguments = {
        "num_samples": 3, "max_completion_length": 12, "temperature": 1.0, "max_batch_size": 4, "seed": 1,
    } | changes  # fmt: skip
    return generate(policy, PROMPTS, **arguments)  # type: ignore[arg-type]


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
