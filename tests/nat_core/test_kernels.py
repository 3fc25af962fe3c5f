"""Which attention kernel packed passes take: those that a build of torch may have, tried out as on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from nat_core import kernels
from nat_core.kernels import KERNELS, Heads, Segments, agrees, kernel_for

CPU = torch.device("cpu")
HEADS = Heads(queries=4, keys=2, width=8, value_width=8)
NATIVE, COPIES, ONE_BY_ONE = KERNELS


def flash(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, window: Any, scale: float | None) -> Tensor:
    """What torch's kernel computes: [M, H, D] each, sequences between the ends, so many tokens to both sides."""
    parts, (left, right) = [], window
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        q, k, v = (x[start:end].transpose(0, 1).unsqueeze(0) for x in (query, key, value))
        place = torch.arange(end - start)
        before = place.unsqueeze(1) - place
        seen = ((before <= left) | (left < 0)) & ((-before <= right) | (right < 0))
        out = scaled_dot_product_attention(q, k, v, seen, scale=scale, enable_gqa=True)
        parts.append(out[0].transpose(0, 1))
    return torch.cat(parts)


def torch_2_10(q: Any, k: Any, v: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int,
               is_causal: bool = False, return_aux: Any = None) -> Tensor:  # fmt: skip
    return flash(q, k, v, cu_seq_q, (-1, 0 if is_causal else -1), None)


def torch_2_11(q: Any, k: Any, v: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
               return_aux: Any = None, scale: Any = None, window_size: Any = (-1, -1)) -> Tensor:  # fmt: skip
    return flash(q, k, v, cu_seq_q, window_size, scale)


def torch_2_12(q: Any, k: Any, v: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *, return_aux: Any = None,
               scale: Any = None, window_size: Any = (-1, -1), enable_gqa: bool = False) -> Tensor:  # fmt: skip
    if q.shape[1] != k.shape[1] and not enable_gqa:
        raise ValueError("Expect query and key/value to have the same number of heads")
    return flash(q, k, v, cu_seq_q, window_size, scale)


def without_groups(q: Any, k: Any, v: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
                   scale: Any = None, window_size: Any = (-1, -1)) -> Tensor:  # fmt: skip
    if q.shape[1] != k.shape[1]:
        raise RuntimeError("Number of heads in key/value must equal number of heads in query")
    return flash(q, k, v, cu_seq_q, window_size, scale)


def with_groups_mixed_up(q: Any, k: Any, v: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
                         scale: Any = None, window_size: Any = (-1, -1)) -> Tensor:  # fmt: skip
    k, v = (x.repeat(1, q.shape[1] // x.shape[1], 1) for x in (k, v))  # heads 0 1 0 1, not 0 0 1 1
    return flash(q, k, v, cu_seq_q, window_size, scale)


def never_causal(q: Any, k: Any, v: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
                 scale: Any = None, window_size: Any = (-1, -1)) -> Tensor:  # fmt: skip
    return flash(q, k, v, cu_seq_q, (window_size[0], -1), scale)


@pytest.mark.parametrize(
    ("kernel", "serves"),
    [
        (torch_2_10, [NATIVE, COPIES]),
        (torch_2_11, [NATIVE, COPIES]),
        (torch_2_12, [NATIVE, COPIES]),
        (without_groups, [COPIES]),
        (with_groups_mixed_up, [COPIES]),
        (never_causal, []),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_kernel_is_taken_that_makes_what_one_a_sequence_makes(
    kernel: Any, serves: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "varlen_attn", kernel)
    windows = [None] if kernel is torch_2_10 else [None, 2]
    source = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, heads, 7, 8, generator=source, dtype=torch.float64) for heads in (4, 2, 2))
    shared = Segments([5, 4], torch.tensor([0, 1, 2, 3, 4, 0, 1, 5, 6]), torch.tensor([0, 1, 2, 3, 4, 7, 8]))
    for window in windows:
        found = [name for name in (NATIVE, COPIES) if agrees(name, CPU, torch.float32, HEADS, window is not None)]
        assert found == serves
        for segments in (Segments([4, 3]), shared):
            expected = KERNELS[ONE_BY_ONE](query, key, value, segments, 0.3, window)
            for name in serves:
                torch.testing.assert_close(KERNELS[name](query, key, value, segments, 0.3, window), expected)


def test_a_kernel_without_windows_is_taken_where_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "varlen_attn", torch_2_10)
    assert agrees(NATIVE, CPU, torch.float32, HEADS) and not agrees(NATIVE, CPU, torch.float32, HEADS, windowed=True)


def test_where_there_is_no_such_kernel_sequences_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_for(CPU, torch.bfloat16, HEADS) == ONE_BY_ONE
    assert kernel_for(torch.device("cuda"), torch.float32, HEADS) == ONE_BY_ONE
    monkeypatch.setattr(kernels, "varlen_attn", None)
    assert kernel_for(torch.device("cuda", 7), torch.bfloat16, HEADS) == ONE_BY_ONE


def test_on_a_gpu_the_best_that_agrees_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def only_copies(name: str, *_: object) -> bool:
        tried.append(name)
        return name == COPIES

    monkeypatch.setattr(kernels, "varlen_attn", torch_2_11)
    monkeypatch.setattr(kernels, "agrees", only_copies)
    heads = Heads(queries=4, keys=2, width=16, value_width=16)
    assert kernel_for(torch.device("cuda", 6), torch.bfloat16, heads) == COPIES
    assert kernel_for(torch.device("cuda", 6), torch.bfloat16, heads) == COPIES  # known by now
    assert tried == [NATIVE, COPIES]
