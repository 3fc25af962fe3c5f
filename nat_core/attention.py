"""Our own attention, which transformers takes by name: for packed passes of the update, and for tokens being sampled.

Packed: sequences lie end to end in one row, no padding, no mask, a shared prompt stored once. While such a pass and its
backward run, the model's own attention is replaced by ours, which reads from `segments` where each sequence begins.
Linear layers, norms and activations, nearly all of a model's work, then run once on every token; only attention lays a
prompt out again before each completion.

N packed tokens, M >= N places as attention sees them, H heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from nat_core.kernels import KERNELS, Heads, Segments, kernel_for

PACKED = "natlab_packed"
DECODE = "natlab_decode"

_noted: list[int | None] | None = None
_UNKNOWN = ("softcap", "s_aux", "position_bias")  # what some models ask of attention, and this one does not do


def packed_attention(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Let the model's attention take `segments`; holds until the backward pass is through, for recomputed layers."""
    return _attention_by(PACKED, model)


def decode_attention(model: PreTrainedModel) -> AbstractContextManager[None]:
    """For passes over one new token a row, all others in a cache; `attention_mask` is Bool [b, 1, 1, L]."""
    return _attention_by(DECODE, model)


@contextmanager
def noting_windows() -> Iterator[list[int | None]]:
    """What each call of packed attention inside is told of its layer's window; for passes one after another."""
    global _noted
    noted: list[int | None] = []
    _noted = noted
    try:
        yield noted
    finally:
        _noted = None


@contextmanager
def _attention_by(name: str, model: PreTrainedModel) -> Iterator[None]:
    config: Any = model.get_decoder().config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def _packed(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Segments,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each segment; query, key, value [1, H, N, D] → [1, N, H, D].

    Args:
        sliding_window: how many tokens each one sees, itself included; None for all before it.
    """
    asked = [name for name in _UNKNOWN if unused.get(name) is not None]
    if asked:
        raise NotImplementedError(f"{type(module).__name__} asks for {', '.join(asked)}")
    if _noted is not None:
        _noted.append(sliding_window)
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # normed heads and 4-bit layers give float32: kernels would round it
        half = torch.get_autocast_dtype(kind)
        query, key, value = (x.to(half) for x in (query, key, value))
    heads = Heads(query.shape[1], key.shape[1], query.shape[3], value.shape[3])
    window = sliding_window if sliding_window is not None and sliding_window < segments.longest else None
    kernel = KERNELS[kernel_for(query.device, query.dtype, heads, window is not None)]
    out = kernel(query, key, value, segments, scaling, window)
    return (out if segments.scatter is None else out.index_select(1, segments.scatter)), None


def _decode(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attention of one token a row: query [b, H, 1, D]; key, value [b, K, L, D] → [b, 1, H, D].

    Heads that share keys stand as so many queries of one head, so that keys need no copies.
    """
    batch, heads, _, width = query.shape
    query = query.reshape(batch, key.shape[1], heads // key.shape[1], width)
    out = scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
    return out.reshape(batch, 1, heads, value.shape[-1]), None


AttentionInterface.register(PACKED, _packed)
AttentionInterface.register(DECODE, _decode)
