"""Log-probabilities of chosen tokens without a [tokens, vocabulary] tensor that outlives its chunk.

The head runs on the hidden states of selected positions only; logits are made chunk by chunk and, but for the last
chunk's, made again in the backward pass. S selected tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]

_AT_A_TIME = {"cpu": 4 * 2**20, "cuda": 128 * 2**20}
"""Bytes of logits gone over together, by device: what a cache holds; what keeps a GPU busy."""


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
    # The backward pass begins with the last chunk and needs its logits there in any case: they may as well stay. The
    # remainder comes first, so that it is a whole chunk that isn't made again.
    before = max(hidden.shape[0] - chunk_tokens, 0)
    sizes = [size for size in (before % chunk_tokens, *[chunk_tokens] * (before // chunk_tokens)) if size]
    *again, (last_hidden, last_targets) = zip(
        *(x.split([*sizes, x.shape[0] - before]) for x in (hidden, targets)), strict=True
    )
    parts = [checkpoint(_chunk, h, t, head, temperature, entropy_gradient, use_reentrant=False) for h, t in again]
    parts.append(_chunk(last_hidden, last_targets, head, temperature, entropy_gradient))
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

    Both passes go over the logits a few rows at a time, and the gradient is written where the logits stand. Autograd's
    own operations would hold the logits of a chunk five times over at the peak; here they stand there once.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        found = [_normalised(rows) for rows in _few_rows(logits)]
        normaliser, entropy = (torch.cat(parts) for parts in zip(*found, strict=True))
        logprobs = logits.gather(1, targets.unsqueeze(1)).squeeze(1) - normaliser
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, targets, normaliser, entropy)
        ctx.spent = False
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor | None, entropy_slope: Tensor | None) -> tuple[Tensor | None, None]:
        """d logprob / d logit is (1 where it is the target's) - p; d entropy / d logit is -p (log p + entropy)."""
        if slope is None and entropy_slope is None:
            return None, None
        if ctx.spent:
            raise RuntimeError("the gradient stands where these logits stood; run the forward pass again")
        ctx.spent = True
        logits, targets, normaliser, entropy = ctx.saved_tensors
        slope = torch.zeros_like(normaliser) if slope is None else slope
        places = _few_rows(logits)
        sizes = [len(rows) for rows in places]
        columns = [x.unsqueeze(1).split(sizes) for x in (normaliser, slope)]
        if entropy_slope is None:
            for rows, log_total, pull in zip(places, *columns, strict=True):
                rows.sub_(log_total).exp_().mul_(-pull)
        else:
            columns += [x.unsqueeze(1).split(sizes) for x in (entropy, entropy_slope)]
            for rows, log_total, pull, mean, entropy_pull in zip(places, *columns, strict=True):
                probabilities = rows.sub_(log_total).exp()
                rows.add_(mean).mul_(entropy_pull).add_(pull).mul_(probabilities).neg_()
        return logits.scatter_add_(1, targets.unsqueeze(1), slope.unsqueeze(1)), None


def _normalised(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithm of the sum of exponentials, and the entropy, of each row: Float [s] each."""
    highest = logits.amax(dim=1, keepdim=True)
    shares = (logits - highest).exp_()
    total = shares.sum(dim=1)
    normaliser = highest.squeeze(1) + total.log()
    return normaliser, normaliser - shares.mul_(logits).sum(dim=1) / total


def _few_rows(logits: Tensor) -> Sequence[Tensor]:
    """The logits, so many rows at a time that what is made of them is small; all of none."""
    per_row = logits.shape[1] * logits.element_size()
    rows: Sequence[Tensor] = logits.split(max(1, _AT_A_TIME[logits.device.type] // per_row))
    return rows
