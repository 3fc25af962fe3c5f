"""Chunked log-probabilities equal plain ones, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import nat_core.logprobs as logprobs_module
from nat_core.logprobs import selected_logprobs

_VIEWS = ("detach", "t", "split", "view", "unsqueeze", "squeeze", "alias", "transpose")


def test_chunks_change_neither_values_nor_gradients() -> None:
    source = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 6, generator=source, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(17, 6, generator=source, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 17, (11,), generator=source)
    upstream = torch.randn(11, generator=source, dtype=torch.float64)
    expected = torch.log_softmax(hidden @ weight.T / 0.7, -1)
    plain = expected.gather(1, targets.unsqueeze(1)).squeeze(1)
    wanted = torch.autograd.grad(plain @ upstream, (hidden, weight))
    for chunk in (1, 4, 11, 100):
        found, entropy = selected_logprobs(hidden, targets, lambda h: h @ weight.T, temperature=0.7, chunk_tokens=chunk)
        got = torch.autograd.grad(found @ upstream, (hidden, weight))
        assert torch.allclose(found, plain, atol=1e-12)
        assert torch.allclose(entropy, -(expected.exp() * expected).sum(-1), atol=1e-12)
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("used", [(1.0, 0.0), (0.0, 1.0), (0.7, -0.4)])
@pytest.mark.parametrize("chunk", [1, 2, 4, 9])
@pytest.mark.parametrize("at_a_time", [1, 2 * 7 * 8, 2**20])  # bytes: one row, two, all
def test_gradients_of_logprobs_and_of_entropy_are_those_of_plain_operations(
    used: tuple[float, float], chunk: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(logprobs_module._AT_A_TIME, "cpu", at_a_time)
    source = torch.Generator().manual_seed(1)
    hidden = torch.randn(5, 3, generator=source, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 3, generator=source, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 6, 3, 3, 1])
    slopes = torch.randn(2, 5, generator=source, dtype=torch.float64)

    def mixed(logprobs: torch.Tensor, entropy: torch.Tensor) -> torch.Tensor:
        parts = (
            factor * (part @ slope)
            for factor, part, slope in zip(used, (logprobs, entropy), slopes, strict=True)
            if factor
        )
        return sum(parts, torch.zeros((), dtype=torch.float64))  # what is not used gets no slope at all

    every = torch.log_softmax(hidden @ weight.T / 0.8, -1)
    plain = mixed(every.gather(1, targets.unsqueeze(1)).squeeze(1), -(every.exp() * every).sum(-1))
    found = mixed(
        *selected_logprobs(
            hidden, targets, lambda x: x @ weight.T, temperature=0.8, chunk_tokens=chunk, entropy_gradient=True
        )
    )
    wanted, got = (torch.autograd.grad(loss, (hidden, weight)) for loss in (plain, found))
    assert torch.allclose(found, plain, atol=1e-12)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(got, wanted, strict=True))


def test_the_last_chunk_is_made_once_and_whole_and_the_others_twice() -> None:
    made: list[int] = []
    weight = torch.randn(7, 3, requires_grad=True)

    def head(hidden: torch.Tensor) -> torch.Tensor:
        made.append(len(hidden))
        return hidden @ weight.T

    found, _ = selected_logprobs(
        torch.randn(11, 3, requires_grad=True), torch.arange(11) % 7, head, temperature=1.0, chunk_tokens=4
    )
    assert made == [3, 4, 4]
    found.sum().backward()
    assert made == [3, 4, 4, 4, 3]


def test_a_second_backward_pass_over_logits_that_are_gone_is_an_error() -> None:
    weight = torch.randn(7, 3, requires_grad=True)
    found, _ = selected_logprobs(
        torch.randn(2, 3), torch.arange(2), lambda h: h @ weight.T, temperature=1.0, chunk_tokens=4
    )
    found.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="run the forward pass again"):
        found.sum().backward()


def test_what_is_made_of_the_logits_on_the_way_is_small() -> None:
    """Beside the head's output nothing as large, forward or backward: a few rows of it at a time."""
    weight, hidden = torch.randn(5000, 3, requires_grad=True), torch.randn(2000, 3)
    largest: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            if isinstance(out, torch.Tensor) and not name.endswith("_") and name not in _VIEWS:
                largest.append(out.numel())
            return out

    with Sizes():
        found, _ = selected_logprobs(
            hidden, torch.arange(2000), lambda h: h @ weight.T, temperature=1.0, chunk_tokens=2000
        )
        found.sum().backward()
    whole, few = 2000 * 5000, 4 * 2**20 // 4
    assert [size for size in largest if size > few] == [whole]


def test_the_logits_of_a_chunk_are_kept_once() -> None:
    """Where autograd's own operations keep the head's output, the scaled one and the probabilities."""
    kept: dict[int, int] = {}
    hidden, weight = torch.randn(6, 3, requires_grad=True), torch.randn(50, 3)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape == (6, 50):
            kept[tensor.untyped_storage().data_ptr()] = 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        selected_logprobs(hidden, torch.arange(6), lambda h: h @ weight.T, temperature=0.5, chunk_tokens=6)
    assert len(kept) == 1


def test_no_tokens_are_no_tokens() -> None:
    weight = torch.zeros(5, 3)
    found, entropy = selected_logprobs(
        torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), lambda h: h @ weight.T, temperature=1.0, chunk_tokens=4
    )
    assert found.shape == entropy.shape == (0,)


def test_low_precision_logits_are_normalised_in_float32() -> None:
    hidden = torch.ones(1, 2, dtype=torch.bfloat16)
    found, _ = selected_logprobs(
        hidden,
        torch.tensor([0]),
        lambda h: h @ torch.ones(2, 1000, dtype=torch.bfloat16),
        temperature=1.0,
        chunk_tokens=1,
    )
    assert found.dtype == torch.float32 and abs(float(found) + 6.907755) < 1e-5
