"""Attention over sequences that lie end to end: the kernels for it, and which of them works here.

N packed tokens, M >= N places as attention sees them, H heads, K heads of keys, D head dimension.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

try:
    from torch.nn.attention import varlen
except ImportError:  # torch before 2.10
    varlen = None  # type: ignore[assignment]

varlen_attn: Any = getattr(varlen, "varlen_attn", None)


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


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Tensor:
    """A causal kernel for each sequence: exact anywhere, and on a CPU as fast as it gets."""
    if segments.gather is not None:
        query, key, value = (x.index_select(2, segments.gather) for x in (query, key, value))
    grouped = query.shape[1] != key.shape[1]
    if grouped and query.is_cuda and query.dtype == torch.float32:  # no kernel there shares keys but a quadratic one
        key, value = (_for_each_head(x, query) for x in (key, value))
        grouped = False
    parts = zip(*(x.split(segments.lengths, dim=2) for x in (query, key, value)), strict=True)
    out = []
    for q, k, v in parts:
        mask = None if window is None or window >= q.shape[2] else _band(q.shape[2], window, q.device)
        out.append(scaled_dot_product_attention(q, k, v, mask, 0.0, mask is None, scale=scaling, enable_gqa=grouped))
    return torch.cat([part.transpose(1, 2) for part in out], dim=1)


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """Bool [length, length]: which tokens see which, themselves and so many before them in all."""
    place = torch.arange(length, device=device)
    distance = place.unsqueeze(1) - place
    return (distance >= 0) & (distance < window)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Tensor:
    """One FlashAttention kernel for all sequences, which finds the keys that several heads share by itself."""
    shares = {"enable_gqa": True} if query.shape[1] != key.shape[1] and "enable_gqa" in _varlen_options() else {}
    return _flash(query, key, value, segments, scaling, window, **shares)


def _varlen_of_copies(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Tensor:
    """The same where each head needs keys of its own."""
    return _flash(query, _for_each_head(key, query), _for_each_head(value, query), segments, scaling, window)


def _for_each_head(states: Tensor, query: Tensor) -> Tensor:
    """Keys or values [1, K, N, D], again for each of the query's heads: [1, H, N, D]."""
    return states.repeat_interleave(query.shape[1] // states.shape[1], dim=1)


def _tokens_first(states: Tensor, segments: Segments) -> Tensor:
    """[1, H, N, D] → [M, H, D], as attention sees the tokens."""
    states = states[0].transpose(0, 1)  # as a linear layer made them: nothing is copied
    return states.contiguous() if segments.gather is None else states.index_select(0, segments.gather)


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    scaling: float | None,
    window: int | None,
    **options: Any,
) -> Tensor:
    """torch's kernel, causal; what it can be told has changed from version to version."""
    query, key, value = (_tokens_first(x, segments) for x in (query, key, value))
    known = _varlen_options()
    if "window_size" in known:  # so many tokens to the left and to the right; -1 is all
        options["window_size"] = (-1 if window is None else window - 1, 0)
    elif window is None:
        options["is_causal"] = True
    else:
        raise NotImplementedError("this torch's kernel knows no windows")
    if "scale" in known:
        options["scale"] = scaling
    elif scaling is not None:  # it scales by the root of the width
        query = query * (scaling * query.shape[-1] ** 0.5)
    ends, longest = segments.ends.to(query.device), segments.longest
    out: Tensor = varlen_attn(query, key, value, ends, ends, longest, longest, **options)
    return out.unsqueeze(0)


def _varlen_options() -> frozenset[str]:
    """Names of what torch's kernel can be told."""
    return _parameters_of(varlen_attn)


@lru_cache
def _parameters_of(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


Kernel = Callable[[Tensor, Tensor, Tensor, Segments, float | None, int | None], Tensor]

KERNELS: dict[str, Kernel] = {
    "FlashAttention for all": _varlen,
    "FlashAttention for all, keys copied for each head": _varlen_of_copies,
    "one by one": _one_by_one,
}
"""By what the log calls them, the best first: query, key, value [1, H, N, D], segments, scaling, and how many tokens
each sees, itself included, None for all before it → [1, M, H, D]."""


@dataclass(frozen=True)
class Heads:
    """Attributes:
    queries, keys: how many heads of each.
    width, value_width: dimensions of a head.
    """

    queries: int
    keys: int
    width: int
    value_width: int


@lru_cache
def kernel_for(device: torch.device, dtype: torch.dtype, heads: Heads, windowed: bool = False) -> str:
    """The first of `KERNELS` that works here: forward and backward, it gives what one kernel a sequence gives.

    Tried out, not told from versions: which kernel a build of torch has for a device, type and width is nowhere said.
    """
    if varlen_attn is None or device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return "one by one"
    return next(name for name in KERNELS if name == "one by one" or agrees(name, device, dtype, heads, windowed))


def agrees(name: str, device: torch.device, dtype: torch.dtype, heads: Heads, windowed: bool = False) -> bool:
    """Whether a kernel gives values and gradients of `one by one`, as far as the type is precise."""
    try:
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            found, expected = (_tried(KERNELS[kind], device, dtype, heads, windowed) for kind in (name, "one by one"))
            return all(float((a - b).norm()) <= 0.05 * float(b.norm()) for a, b in zip(found, expected, strict=True))
    except Exception:  # foreign code: a kernel that does not serve raises whatever it likes
        return False


def _tried(kernel: Kernel, device: torch.device, dtype: torch.dtype, heads: Heads, windowed: bool) -> list[Tensor]:
    """What a kernel makes of two short sequences, and of the gradient of that."""
    generator, segments = torch.Generator().manual_seed(0), Segments([5, 3])
    shapes = [(heads.queries, heads.width), (heads.keys, heads.width), (heads.keys, heads.value_width)]
    query, key, value = states = [
        torch.randn(1, count, 8, width, generator=generator).to(device, dtype).requires_grad_()
        for count, width in shapes
    ]
    out = kernel(query, key, value, segments, None, 2 if windowed else None)
    slope = torch.randn(out.shape, generator=generator).to(out)
    return [x.detach().float() for x in (out, *torch.autograd.grad(out, states, slope))]
