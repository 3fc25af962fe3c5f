"""Completions on their way between ranks: a few long tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nat_core.ranks import Ranks
from nat_core.rollout.completion import Completion

_HEADER = 4  # job, truncated, number of tokens, number of log-probabilities


def all_completions(ranks: Ranks, own: Mapping[int, Completion]) -> dict[int, Completion]:
    """What all ranks sampled, by job, of what each of them did."""
    if ranks.alone:
        return dict(own)
    numbers = [value for job, c in own.items() for value in (job, int(c.truncated), len(c.ids), len(c.logprobs))]
    tokens = [token for completion in own.values() for token in completion.ids]
    logprobs = [logprob for completion in own.values() for logprob in completion.logprobs]
    whole = torch.tensor([len(own), *numbers, *tokens], dtype=torch.long)
    parts = zip(ranks.gather(whole), ranks.gather(torch.tensor(logprobs, dtype=torch.float64)), strict=True)
    return {job: completion for part in parts for job, completion in _read(*part).items()}


def _read(whole: Tensor, logprobs: Tensor) -> dict[int, Completion]:
    end = 1 + int(whole[0]) * _HEADER
    tokens, probabilities = iter(whole[end:].tolist()), iter(logprobs.tolist())
    found = {}
    for job, truncated, num_tokens, num_logprobs in whole[1:end].reshape(-1, _HEADER).tolist():
        ids = [next(tokens) for _ in range(num_tokens)]
        found[job] = Completion(ids, bool(truncated), [next(probabilities) for _ in range(num_logprobs)])
    return found
