"""The regression guard: what takes the time, side by side in one run. `make guard` prints ratios within each group.

A plain test run calls each once and checks what it made; nothing here asserts a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from pytest_benchmark.fixture import BenchmarkFixture
from transformers import LlamaConfig

from bench.contenders import natlab
from nat_core.logprobs import selected_logprobs
from nat_core.model import Policy
from nat_core.random_model import random_completions, random_policy
from nat_core.spec import BudgetSpec, ModelSpec, ResourcesSpec
from nat_core.token_selection import select_tokens

CPU = torch.device("cpu")
BUDGETS: dict[str, dict[str, Any]] = {
    "full": {"selector": "full"},
    "rpc linear 1/2": {"selector": "rpc", "fraction": 0.5},
    "rpc linear 1/4": {"selector": "rpc", "fraction": 0.25},
    "rpc systematic 1/2": {"selector": "rpc", "fraction": 0.5, "coupling": "systematic"},
    "urs 1/2": {"selector": "urs", "fraction": 0.5},
    "completions 1/2": {"selector": "completions", "fraction": 0.5},
}
EACH = pytest.mark.parametrize("name", BUDGETS)


def budget_of(name: str) -> BudgetSpec:
    return TypeAdapter[BudgetSpec](BudgetSpec).validate_python(BUDGETS[name])


@EACH
@pytest.mark.benchmark(group="selection: 256 completions of up to 4,096 tokens")
def test_selection(benchmark: BenchmarkFixture, name: str) -> None:
    lengths, budget = torch.linspace(64, 4096, 256).long(), budget_of(name)
    generator = torch.Generator().manual_seed(0)
    selection = benchmark(select_tokens, budget, lengths, generator=generator)
    assert 0 < selection.num_kept <= int(lengths.sum())


@pytest.fixture(scope="module")
def policy() -> Policy:
    shape = LlamaConfig(
        vocab_size=4096, hidden_size=96, intermediate_size=256, num_hidden_layers=4, num_attention_heads=3,
        num_key_value_heads=1, tie_word_embeddings=True, pad_token_id=0, eos_token_id=None, bos_token_id=None,
    )  # fmt: skip
    return random_policy(shape, CPU, ModelSpec())


def whole_vocabulary(head: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, ids: torch.Tensor) -> Any:
    """What a plain implementation does: all log-probabilities at once, kept for the backward pass."""
    return torch.log_softmax(head(hidden).float(), -1).gather(1, ids.unsqueeze(1)).squeeze(1)


def in_chunks(head: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, ids: torch.Tensor) -> Any:
    return selected_logprobs(hidden, ids, head, temperature=1.0, chunk_tokens=256)[0]


@pytest.mark.parametrize("way", [whole_vocabulary, in_chunks], ids=lambda way: way.__name__)
@pytest.mark.benchmark(group="log-probabilities of 1,024 tokens and their gradient")
def test_logprobs(benchmark: BenchmarkFixture, policy: Policy, way: Callable[..., torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1024, 96, generator=generator, requires_grad=True)
    ids = torch.randint(4096, (1024,), generator=generator)

    def run() -> torch.Tensor:
        hidden.grad = None
        way(policy.head, hidden, ids).sum().backward()
        assert hidden.grad is not None
        return hidden.grad

    found = benchmark(run)
    hidden.grad = None
    whole_vocabulary(policy.head, hidden, ids).sum().backward()
    assert torch.allclose(found, hidden.grad, atol=1e-6)


@EACH
@pytest.mark.benchmark(group="update step: 16 completions of 16 to 256 tokens")
def test_update_step(benchmark: BenchmarkFixture, policy: Policy, name: str) -> None:
    batch = random_completions(16, 8, [16 * (i + 1) for i in range(16)], 4096)
    contender = natlab(policy, batch, budget_of(name), ResourcesSpec(per_device_train_batch_size=8))
    work = benchmark(contender, torch.Generator().manual_seed(0))
    assert 0 < work.kept <= sum(batch.lengths.tolist())
