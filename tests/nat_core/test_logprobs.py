"""Chunked log-probabilities equal plain ones, values and gradients."""

from __future__ import annotations

import pytest
import torch

from nat_core.logprobs import selected_logprobs


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
def test_gradients_of_logprobs_and_of_entropy_are_those_of_finite_differences(used: tuple[float, float]) -> None:
    source = torch.Generator().manual_seed(1)
    hidden = torch.randn(5, 3, generator=source, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 3, generator=source, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 6, 3, 3, 1])

    def mixed(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        logprobs, entropy = selected_logprobs(
            h, targets, lambda x: x @ w.T, temperature=0.8, chunk_tokens=2, entropy_gradient=True
        )
        return sum(factor * part for factor, part in zip(used, (logprobs, entropy), strict=True) if factor)  # type: ignore[return-value]

    assert torch.autograd.gradcheck(mixed, (hidden, weight))


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
