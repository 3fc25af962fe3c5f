"""Log-probabilities of chosen tokens without a [tokens, vocabulary] tensor that outlives its chunk.

The head runs on the hidden states of selected positions only; logits are made chunk by chunk and
made again in the backward pass. S selected tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
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
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logprobs, entropy = _Picked.apply(logits if temperature == 1 else logits.div_(temperature), targets)  # type: ignore[no-untyped-call]
    return logprobs, entropy if entropy_gradient else entropy.detach()


class _Picked(torch.autograd.Function):
    """Log-probabilities of targets, and the entropy, of logits that nobody else needs.

    The gradient is written where the logits stand. Autograd's own operations would hold the logits of a chunk five
    times over at the peak; here they stand there twice at most.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        normaliser = torch.logsumexp(logits, dim=-1)
        logprobs = logits.gather(1, targets.unsqueeze(1)).squeeze(1) - normaliser
        probabilities = (logits - normaliser.unsqueeze(1)).exp_()
        entropy = normaliser - probabilities.mul_(logits).sum(dim=-1)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, targets, normaliser, entropy)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor | None, entropy_slope: Tensor | None) -> tuple[Tensor | None, None]:
        """d logprob / d logit is (1 where it is the target's) - p; d entropy / d logit is -p (log p + entropy)."""
        logits, targets, normaliser, entropy = ctx.saved_tensors
        if slope is None and entropy_slope is None:
            return None, None
        slope = torch.zeros_like(normaliser) if slope is None else slope
        all_logprobs = logits.sub_(normaliser.unsqueeze(1))
        if entropy_slope is None:
            found = all_logprobs.exp_().mul_(-slope.unsqueeze(1))
        else:
            probabilities = all_logprobs.exp()
            pull = all_logprobs.add_(entropy.unsqueeze(1)).mul_(entropy_slope.unsqueeze(1))
            found = pull.add_(slope.unsqueeze(1)).mul_(probabilities).neg_()
        return found.scatter_add_(1, targets.unsqueeze(1), slope.unsqueeze(1)), None
