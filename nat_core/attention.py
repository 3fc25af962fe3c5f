"""Our own attention, which transformers takes by name: for packed passes of the update, and for tokens being sampled.

Packed: sequences lie end to end in one row, no padding, no mask, a shared prompt stored once. While such a pass and its
backward run, the model's own attention is replaced by ours, which reads from `segments` where each sequence begins.
Linear layers, norms and activations, nearly all of a model's work, then run once on every token; only attention lays a
prompt out again before each completion.

N packed tokens, M >= N places as attention sees them, H heads, D head dimension.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

try:
    from torch.nn.attention import varlen
except ImportError:  # torch before 2.10
    varlen = None  # type: ignore[assignment]

varlen_attn: Any = getattr(varlen, "varlen_attn", None)
_VARLEN_KNOWS = frozenset(inspect.signature(varlen_attn).parameters if varlen_attn else ())

PACKED = "natlab_packed"
DECODE = "natlab_decode"

_UNKNOWN = ("softcap", "s_aux", "position_bias")  # what some models ask of attention, and this one does not do


@dataclass(frozen=True)
class Segments:
    """Where the sequences are that attention must not look across.

    Attributes:
        lengths: of each sequence, its prompt included; they sum to M.
        gather: Long [M], the packed token at each place; None where no prompt is shared and N = M.
        scatter: Long [N], a place at which each packed token stands; None likewise.
    """

    lengths: list[int]
    gather: Tensor | None = None
    scatter: Tensor | None = None

    @cached_property
    def longest(self) -> int:
        return max(self.lengths)

    @cached_property
    def ends(self) -> Tensor:
        """Int32 [sequences + 1]: 0, then where each sequence ends; on the device of `gather` or the CPU."""
        device = self.gather.device if self.gather is not None else None
        return torch.tensor([0, *self.lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)

    def to(self, device: torch.device) -> Segments:
        if self.gather is None or self.scatter is None:
            return self
        return Segments(self.lengths, self.gather.to(device), self.scatter.to(device))


def packed_attention(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Let the model's attention take `segments`; holds until the backward pass is through, for recomputed layers."""
    return _attention_by(PACKED, model)


def decode_attention(model: PreTrainedModel) -> AbstractContextManager[None]:
    """For passes over one new token a row, all others in a cache; `attention_mask` is Bool [b, 1, 1, L]."""
    return _attention_by(DECODE, model)


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
    if torch.is_autocast_enabled(
        query.device.type
    ):  # normed heads and 4-bit layers give float32: kernels would round it
        half = torch.get_autocast_dtype(query.device.type)
        query, key, value = (x.to(half) for x in (query, key, value))
    if segments.gather is not None:
        query, key, value = (x.index_select(2, segments.gather) for x in (query, key, value))
    window = sliding_window if sliding_window is not None and sliding_window < segments.longest else None
    at_once = varlen_serves(query.device, str(query.dtype).removeprefix("torch."))
    kernel = _varlen if at_once and (window is None or "window_size" in _VARLEN_KNOWS) else _one_by_one
    out = kernel(query, key, value, segments, scaling, window)
    return (out if segments.scatter is None else out.index_select(1, segments.scatter)), None


def varlen_serves(device: torch.device, dtype: str) -> bool:
    """Whether one FlashAttention kernel can take all sequences at once."""
    return varlen_attn is not None and device.type == "cuda" and dtype in ("bfloat16", "float16")


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Tensor:
    """A causal kernel for each sequence: exact anywhere, and on a CPU as fast as it gets."""
    grouped = query.shape[1] != key.shape[1]
    parts = zip(*(x.split(segments.lengths, dim=2) for x in (query, key, value)), strict=True)
    band = None if window is None else _band(segments.longest, window, query.device)
    out = []
    for q, k, v in parts:
        mask = None if band is None else band[: q.shape[2], : q.shape[2]]
        seen = scaled_dot_product_attention(q, k, v, mask, 0.0, mask is None, scale=scaling, enable_gqa=grouped)
        out.append(seen.transpose(1, 2))
    return torch.cat(out, dim=1)


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """Bool [length, length]: each token sees itself and the `window` - 1 before it."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Tensor:
    """One FlashAttention kernel for all sequences. Heads that share keys get copies where torch knows no groups."""
    before = -1 if window is None else window - 1
    options: dict[str, Any] = {"window_size": (before, 0)} if "window_size" in _VARLEN_KNOWS else {"is_causal": True}
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and "enable_gqa" in _VARLEN_KNOWS:
        options["enable_gqa"] = True
    elif groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    query, key, value = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    ends, longest = segments.ends.to(query.device), segments.longest
    out: Tensor = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling, **options)
    return out.unsqueeze(0)


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
