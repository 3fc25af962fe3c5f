"""Whether sequences stand end to end, whatever the precision, and what is said about it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import Qwen3Config

from nat_core import packing
from nat_core.kernels import KERNELS, Segments
from nat_core.model import Policy
from nat_core.random_model import random_policy
from nat_core.spec import ModelSpec
from tests.nat_core.builders import tiny_policy

DEEP = Qwen3Config(
    vocab_size=64, hidden_size=128, intermediate_size=384, num_hidden_layers=36, num_attention_heads=4,
    num_key_value_heads=2, head_dim=32, tie_word_embeddings=False, pad_token_id=0, eos_token_id=None, bos_token_id=None,
)  # fmt: skip
PRECISIONS = pytest.mark.parametrize(
    ("weights", "passes"), [("float32", "float32"), ("float32", "bfloat16"), ("bfloat16", "bfloat16")]
)


def deep_policy(weights: str, passes: str) -> Policy:
    """As many layers as Qwen3-8B has: what each rounds adds up."""
    return random_policy(DEEP, torch.device("cpu"), ModelSpec.model_validate({"dtype": passes}), weights)


@PRECISIONS
def test_a_deep_model_is_packed_in_every_precision(weights: str, passes: str) -> None:
    policy = deep_policy(weights, passes)
    assert policy.unpackable is None and policy.layout == "packed"


@PRECISIONS
def test_attention_that_looks_across_sequences_is_found_out_in_every_precision(
    weights: str, passes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def across(
        query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
    ) -> Tensor:
        if segments.gather is not None:
            query, key, value = (x.index_select(2, segments.gather) for x in (query, key, value))
        out = scaled_dot_product_attention(query, key, value, None, 0.0, True, scale=scaling, enable_gqa=True)
        return out.transpose(1, 2)

    monkeypatch.setitem(KERNELS, "one by one", across)
    policy = deep_policy(weights, passes)
    assert policy.unpackable == "packed and padded passes differ" and policy.layout == "padded"


def test_what_was_chosen_is_put_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy()
    words = "rows packed without padding, a group's prompt once; attention over sequences"
    assert packing.in_words(policy) == f"{words} one by one"
    asked: list[object] = []

    def on_a_gpu(*sizes: object) -> str:
        asked.append(sizes)
        return "FlashAttention for all"

    monkeypatch.setattr(packing, "kernel_for", on_a_gpu)
    policy.spec = ModelSpec(dtype="bfloat16")
    assert packing.in_words(policy) == f"{words} FlashAttention for all"
    assert asked == [(policy.device, torch.bfloat16, packing.Heads(2, 1, 8, 8))]
    padded = tiny_policy(attention="eager")
    assert packing.in_words(padded) == "rows right-padded and sorted by length, because attention is eager"
