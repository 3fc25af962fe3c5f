"""Log-probabilities of chosen tokens without a [tokens, vocabulary] tensor that outlives its chunk.

The head runs on the hidden states of selected positions only; logits are made chunk by chunk and
made again in the backward pass. S selected tokens, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]


def selected_logprobs(
    hidden: Tensor,
    targets: Tensor,
    head: Head,
    *,
    temperature: float,
    chunk_tokens: int,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target under the sampling distribution, and that distribution's entropy.

    Args:
        hidden: Float [S, D], hidden states that predict the targets.
        targets: Long [S].
        head: maps [s, D] to logits [s, V].
        temperature: of the sampling distribution; logits are divided by it.
        chunk_tokens: how many tokens' logits exist at the same time.
        entropy_gradient: whether the entropy carries a gradient; without, it costs the backward pass nothing.

    Returns:
        (logprobs, entropy), Float32 (or float64 for float64 logits) [S].
    """
    if hidden.shape[0] <= chunk_tokens:
        return _chunk(hidden, targets, head, temperature, entropy_gradient)
    parts = [
        checkpoint(_chunk, h, t, head, temperature, entropy_gradient, use_reentrant=False)
        for h, t in zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
    ]
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def _chunk(
    hidden: Tensor, targets: Tensor, head: Head, temperature: float, entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    logits = head(hidden)
    logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
    normaliser = torch.logsumexp(logits, dim=-1)
    logprobs = logits.gather(1, targets.unsqueeze(1)).squeeze(1) - normaliser
    with contextlib.nullcontext() if entropy_gradient else torch.no_grad():
        probabilities = torch.exp(logits - normaliser.unsqueeze(1))
        entropy = normaliser - (probabilities * logits).sum(dim=-1)
    return logprobs, entropy
