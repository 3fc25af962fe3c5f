"""The update step and rollouts on a GPU against the same on the processor."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from bench.contenders import natlab
from bench.shapes import policy_of, random_batch, read_lengths
from bench.turns import peaks
from nat_core import packing
from nat_core.drawing import draw_step
from nat_core.events import AnyEvent, LogEvent
from nat_core.kernels import KERNELS, Heads, agrees, kernel_for
from nat_core.model import Policy
from nat_core.optim import build_optimizer
from nat_core.rollout import plain, slots
from nat_core.rollout.completion import Sampling
from nat_core.spec import FullBudget, ModelSpec, OptimSpec, ResourcesSpec, RpcBudget
from nat_core.trainer import Trainer
from nat_core.update import update_step
from tests.nat_core.builders import Attention, gradients, run_spec, tiny_policy
from tests.nat_core.test_update import BUDGETS, SAMPLED, TWO_GROUPS

GPU = torch.device("cuda")
ROWS = dataclasses.replace(TWO_GROUPS, rollout_logprobs=SAMPLED)
QWEN3_8B = Heads(queries=32, keys=8, width=128, value_width=128)


def on_gpu(policy: Policy, dtype: str = "float32") -> Policy:
    model = copy.deepcopy(policy.model)
    torch.nn.Module.to(model, GPU)
    spec = policy.spec.model_copy(update={"dtype": dtype})
    return Policy(model, policy.tokenizer, GPU, spec)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "recomputed"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: "-".join(map(str, b.values())))
def test_the_gradient_is_the_processors(
    budget: dict[str, object], dtype: str, tolerance: float, attention: Attention, checkpointing: bool
) -> None:
    here = tiny_policy(dtype=torch.float32, attention=attention)
    there = on_gpu(here, dtype)
    if checkpointing:
        there.model.gradient_checkpointing_enable({"use_reentrant": False})
        there.model.train()
    assert there.layout == here.layout
    spec = run_spec(
        budget=budget,
        rollout={"max_completion_length": 16, "temperature": 0.8},
        resources={"max_tokens_per_microbatch": 24, "logprob_chunk_tokens": 3},
        optim={"max_grad_norm": 1e9},
    )
    selection = draw_step(here, ROWS, spec, torch.Generator().manual_seed(5)).selection
    found = []
    for policy in (here, there):
        optimizer = torch.optim.SGD(policy.parameters, lr=0.0)
        stats = update_step(policy, optimizer, ROWS, spec, generator=torch.Generator(), selection=selection)
        found.append((gradients(policy).cpu(), stats.metrics["loss"]))
    (expected, loss), (gradient, same) = found
    assert float((gradient - expected).norm()) <= tolerance * float(expected.norm())
    assert same == pytest.approx(loss, abs=tolerance * float(expected.norm()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_one_kernel_takes_all_sequences_in_half_precision(dtype: torch.dtype) -> None:
    chosen = kernel_for(GPU, dtype, QWEN3_8B)
    assert chosen.startswith("FlashAttention for all") and agrees(chosen, GPU, dtype, QWEN3_8B)
    assert kernel_for(GPU, torch.float32, QWEN3_8B) == list(KERNELS)[-1]


def test_the_optimizer_is_fused_and_moves_the_weights() -> None:
    policy = on_gpu(tiny_policy(dtype=torch.float32))
    before = [parameter.detach().clone() for parameter in policy.parameters]
    optimizer = build_optimizer(policy.parameters, OptimSpec(learning_rate=1e-2))
    spec = run_spec(rollout={"max_completion_length": 16})
    update_step(policy, optimizer, ROWS, spec, generator=torch.Generator().manual_seed(0))
    assert optimizer.defaults["fused"]
    assert any(not a.equal(b) for a, b in zip(before, policy.parameters, strict=True))


@torch.no_grad()
def test_greedy_completions_equal_those_of_transformers_generate() -> None:
    policy = on_gpu(tiny_policy(dtype=torch.float32))
    prompts = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
    greedily = Sampling(num_samples=1, max_completion_length=24, temperature=None, seed=0)
    found, expected = (engine.sample(policy, prompts, [0, 1, 2], greedily, 2) for engine in (slots, plain))
    assert [completion.ids for completion in found] == [completion.ids for completion in expected]


def test_half_the_tokens_take_less_memory_beside_weights_and_gradients() -> None:
    policy = policy_of("toy", GPU, ModelSpec(dtype="bfloat16"), "bfloat16")
    lengths = read_lengths("ragged-16")
    batch, resources = random_batch(lengths, 64), ResourcesSpec(per_device_train_batch_size=8)
    full, half = (
        peaks(natlab(policy, batch, budget, resources), policy) for budget in (FullBudget(), RpcBudget(fraction=0.5))
    )
    assert 0 < half.activations < 0.75 * full.activations and half.total < full.total


def test_a_run_trains_in_bfloat16_and_says_how(tmp_path: Path) -> None:
    events: list[AnyEvent] = []
    spec = run_spec(
        model={"dtype": "bfloat16"},
        resources={"device": "cuda"},
        rollout={"num_prompts": 4, "num_generations": 6, "max_completion_length": 32},
        evaluation={"num_prompts": 4, "num_samples": 2, "every": 0},
        budget={"selector": "rpc", "law": "optimal"},
        objective={"beta": 0.05, "num_iterations": 2},
        steps=3,
    )
    result = Trainer(spec, tmp_path, sink=events.append).train()
    assert result.outcome == "succeeded", result.message
    said = [event.message for event in events if isinstance(event, LogEvent)]
    assert any("attention over sequences FlashAttention for all" in message for message in said), said


def test_words_for_the_log_name_the_kernel_that_is_taken() -> None:
    policy = policy_of("toy", GPU, ModelSpec(dtype="bfloat16"), "bfloat16")
    assert packing.attention_kernel(policy) in KERNELS and packing.attention_kernel(policy) in packing.in_words(policy)
