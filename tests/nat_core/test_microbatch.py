"""How rows are split into micro-batches and laid out, and that packed passes give what padded ones do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2MoeConfig,
)

from nat_core.cost import TokenCost
from nat_core.cost.splitting import Layout, Row, packed_size, padded_size, smallest_cap, split_by_cap
from nat_core.demo.pretrain import build_tokenizer
from nat_core.layout import Packed, Padded, pack, pad
from nat_core.microbatch import plan_microbatches
from nat_core.model import Policy
from nat_core.spec import ModelSpec, ResourcesSpec
from nat_core.token_selection import DenseSelection
from tests.nat_core.builders import batch, tiny_policy, with_exact_norms

SIZES = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
}


def rows_of(prompts: str, lengths: list[int]) -> list[Row]:
    return [Row(i, prompt.encode(), 4, length) for i, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))]


def test_split_by_cap_counts_padding() -> None:
    rows = [Row(i, b"", 1, length - 1) for i, length in enumerate([10, 8, 3, 3, 3])]
    assert split_by_cap(5, 20, padded_size(rows)) == [(0, 2), (2, 5)]
    assert split_by_cap(2, 9, padded_size(rows)) == [(0, 1), (1, 2)]  # 10 alone is above, and stands alone
    assert split_by_cap(0, 20, padded_size([])) == []


def test_smallest_cap_balances_a_fixed_number_of_micro_batches() -> None:
    size = padded_size([Row(i, b"", 1, length - 1) for i, length in enumerate([10, 8, 3, 3, 3])])
    assert smallest_cap(5, 2, size) == 20  # 10 8 | 3 3 3; the other cut, 10 | 8 3 3 3, would pad to 32
    assert split_by_cap(5, smallest_cap(5, 5, size), size) == [(i, i + 1) for i in range(5)]


def test_packed_size_counts_a_prompt_once_for_neighbours_and_again_in_a_new_micro_batch() -> None:
    size = packed_size(rows_of("aab", [5, 3, 2]))
    assert size(0, 3) == 4 + 5 + 3 + 4 + 2
    assert size(1, 3) == 4 + 3 + 4 + 2 and size(1, 2) == 4 + 3


def test_a_cap_makes_as_few_micro_batches_as_it_can_and_then_evens_them_out() -> None:
    rows = batch([2] * 6, [9] * 6, [1.0] * 6)
    keep = torch.ones(6, 9, dtype=torch.bool)
    selection = DenseSelection(keep, keep.double(), rows.lengths, rows.lengths, True)
    micros = plan_microbatches(rows.prompts, rows.completions, selection, ResourcesSpec(max_tokens_per_microbatch=49))
    assert [len(micro.rows) for micro in micros] == [3, 3]  # the first could hold four


@pytest.mark.parametrize(("cost", "sizes"), [(None, [1, 3, 4]), (TokenCost(0, 1, 0), [1, 2, 5])])
def test_what_the_largest_leaves_open_is_cut_so_that_the_dearest_is_cheap(
    cost: TokenCost | None, sizes: list[int]
) -> None:
    """Sequences of 6, 6 and six of 2 tokens in three: 6 + 2 + 2 = 10 are the fewest that the largest can have.

    With attention alone it costs 36 + 4 + 4; 6 | 6 + 2 | 5 x 2 has as many tokens, and costs 36 + 4 at most.
    """
    lengths = torch.tensor([6, 6, *[2] * 6])
    prompts = [torch.tensor([i]) for i in range(8)]
    keep = torch.arange(6) < lengths.unsqueeze(1)
    selection = DenseSelection(keep, keep.double(), lengths, lengths, True)
    plan = plan_microbatches(
        prompts,
        [torch.zeros(int(length), dtype=torch.long) for length in lengths],
        selection,
        ResourcesSpec(per_device_train_batch_size=3),
        cost=cost,
    )
    assert [len(micro.rows) for micro in plan] == sizes
    assert max(micro.tokens.num_places for micro in plan) == 10


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_with_a_cost_no_micro_batch_is_above_the_cap(layout: Layout) -> None:
    rows = batch([3] * 9, [31, 4, 17, 9, 22, 2, 13, 30, 8], [1.0] * 9)
    keep = torch.arange(31) < rows.lengths.unsqueeze(1)
    selection = DenseSelection(keep, keep.double(), rows.lengths, rows.lengths, True)
    resources = ResourcesSpec(max_tokens_per_microbatch=60)
    plans = [
        plan_microbatches(rows.prompts, rows.completions, selection, resources, layout, cost=cost)
        for cost in (None, TokenCost(100, 50, 10))
    ]
    assert len(plans[0]) == len(plans[1])
    largest = [max(micro.tokens.num_places for micro in plan) for plan in plans]
    assert largest[1] <= largest[0] <= 60
    assert sorted(int(i) for micro in plans[1] for i in micro.rows) == list(range(9))


def test_plan_leaves_out_rows_that_keep_nothing() -> None:
    keep = torch.zeros(2, 4, dtype=torch.bool)
    keep[1, 0] = True
    selection = DenseSelection(keep, keep.double(), torch.tensor([0, 1]), torch.tensor([4, 4]), True)
    rows = batch([2, 3], [4, 4], [1.0, 1.0])
    (micro,) = plan_microbatches(rows.prompts, rows.completions, selection, ResourcesSpec())
    assert micro.rows.tolist() == [1] and micro.tokens.input_ids.tolist() == rows.prompts[1].tolist()


@given(
    shape=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6)), min_size=1, max_size=8),
    cap=st.integers(1, 40),
    layout=st.sampled_from(["packed", "padded"]),
)
def test_every_kept_token_is_predicted_once_from_the_place_before_it(
    shape: list[tuple[str, int]], cap: int, layout: Layout
) -> None:
    prompts = [torch.tensor({"a": [3, 4], "b": [5]}[name]) for name, _ in shape]
    completions = [torch.arange(100 * (i + 1), 100 * (i + 1) + length) for i, (_, length) in enumerate(shape)]
    lengths = torch.tensor([length for _, length in shape])
    keep = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    selection = DenseSelection(keep, keep.double(), lengths, lengths, True)
    seen: list[tuple[int, int]] = []
    resources = ResourcesSpec(max_tokens_per_microbatch=cap)
    for micro in plan_microbatches(prompts, completions, selection, resources, layout):
        flat = micro.tokens.input_ids.flatten().tolist()
        row, position = keep[micro.rows].nonzero(as_tuple=True)
        for r, t, place in zip(
            row.tolist(), position.tolist(), micro.predicted_at(row, position).tolist(), strict=True
        ):
            index = int(micro.rows[r])
            read = int(completions[index][t - 1]) if t else int(prompts[index][-1])
            assert flat[place] == read and int(micro.targets[r, t]) == int(completions[index][t])
            seen.append((index, t))
    assert sorted(seen) == sorted((i, t) for i, (_, length) in enumerate(shape) for t in range(length))


def test_a_shared_prompt_is_laid_out_again_for_attention_only() -> None:
    prompt, other = torch.tensor([1, 2]), torch.tensor([3])
    laid = pack([prompt, prompt, other], [torch.tensor([4, 5]), torch.tensor([6]), torch.tensor([7])])
    assert isinstance(laid.tokens, Packed) and laid.num_tokens == 7
    assert laid.tokens.input_ids.tolist() == [1, 2, 4, 5, 6, 3, 7]
    assert laid.tokens.position_ids.tolist() == [0, 1, 2, 3, 2, 0, 1]
    segments = laid.tokens.segments
    assert segments.lengths == [4, 3, 2] and segments.gather is not None and segments.scatter is not None
    assert laid.tokens.input_ids[segments.gather].tolist() == [1, 2, 4, 5, 1, 2, 6, 3, 7]
    assert laid.tokens.input_ids[segments.gather][segments.scatter].equal(laid.tokens.input_ids)


def model_of(config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).double().eval()
    return model


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointed"])
@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES),
        Qwen2Config(**SIZES),
        MistralConfig(**SIZES, sliding_window=64),
        MistralConfig(**SIZES, sliding_window=3),
        Qwen2Config(
            **SIZES,
            use_sliding_window=True,
            sliding_window=7,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ],
    ids=lambda config: f"{config.model_type} {getattr(config, 'sliding_window', None) or ''}",
)
def test_packed_states_and_gradients_are_the_padded_ones(config: Any, checkpointing: bool) -> None:
    policy = Policy(with_exact_norms(model_of(config)), build_tokenizer(), torch.device("cpu"), ModelSpec())
    if checkpointing:
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        policy.model.train()
    assert policy.unpackable is None
    rows = batch([5, 5, 2, 3], [7, 3, 1, 6], [1.0] * 4)
    prompts = [rows.prompts[0], rows.prompts[0], *rows.prompts[2:]]
    found = []
    for lay in (pack, pad):
        laid = lay(prompts, rows.completions)
        with policy.attention_for(laid.tokens):
            states = policy.states(laid.tokens)
            places = [
                place
                for before, own, c in zip(laid.before.tolist(), laid.own.tolist(), rows.completions, strict=True)
                for place in [before, *range(own, own + len(c))]
            ]
            policy.model.zero_grad()
            states[places].square().sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in policy.parameters if p.grad is not None])
        found.append((states[places].detach(), gradient))
    assert float((found[0][0] - found[1][0]).abs().max()) <= 1e-10
    assert float((found[0][1] - found[1][1]).abs().max()) <= 1e-10 * max(1.0, float(found[1][1].abs().max()))


def test_models_whose_attention_does_more_are_padded() -> None:
    policy = Policy(model_of(Gemma2Config(**SIZES)), build_tokenizer(), torch.device("cpu"), ModelSpec())
    assert policy.layout == "padded" and policy.unpackable is not None and "softcap" in policy.unpackable


@pytest.mark.parametrize("windowed", [True, False])
def test_models_whose_windows_stand_in_their_mask_alone_are_padded(windowed: bool) -> None:
    """Packed passes have no mask, and the two short sequences that packing is tried on are shorter than any window."""
    config = Qwen2MoeConfig(
        **SIZES, use_sliding_window=windowed, sliding_window=64, num_experts=2, num_experts_per_tok=1,
        moe_intermediate_size=16, shared_expert_intermediate_size=16,
    )  # fmt: skip
    policy = Policy(model_of(config).float(), build_tokenizer(), torch.device("cpu"), ModelSpec())  # type: ignore[no-untyped-call]
    assert (policy.unpackable is None) is not windowed
    assert "mask alone" in (policy.unpackable or "mask alone")


def test_the_models_own_attention_is_back_after_a_packed_pass() -> None:
    policy = tiny_policy()
    ids = torch.tensor([[5, 6, 7]])
    before = policy.hidden_states(ids)
    tokens = pack([torch.tensor([5, 6])], [torch.tensor([7])]).tokens
    with policy.attention_for(tokens):
        assert torch.allclose(policy.states(tokens), before[0], atol=1e-12)
    assert policy.hidden_states(ids).equal(before)
    assert isinstance(pad([torch.tensor([5])], [torch.tensor([6])]).tokens, Padded)
