"""Completions sampled side by side that do not wait for each other: those that end leave, others take their places.

A prompt is computed once for all completions that start with it together. transformers' continuous batching does as
much and more, but without a kernel for paged memory it masks every request against every other, and takes from 1.7 to 6
times as long as this (`python -m bench.rollout`, two cores). So this is its idea on a dense cache.

b rows, L places, D hidden size.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from nat_core.attention import decode_attention
from nat_core.model import Policy
from nat_core.rollout.cache import RowsCache
from nat_core.rollout.completion import Completion, Sampling
from nat_core.rollout.plain import left_padded
from nat_core.rollout.sampling import draw, uniforms

# Moving rows copies the cache: it is done once this share of a batch can be cleared, or filled.
_WORTH_MOVING = 1 / 8


def sample(
    policy: Policy, prompts: list[list[int]], jobs: list[int], sampling: Sampling, max_batch_size: int
) -> list[Completion]:
    """Completions of `jobs`, in their order.

    Args:
        jobs: completion k is of prompt k // num_samples; its random numbers depend on the seed and k alone.
    """
    sampler = _Sampler(policy, prompts, sampling)
    waiting, rows = deque(jobs), None
    while waiting or rows:
        rows = _admit(sampler, waiting, rows, max_batch_size)
        tokens = sampler.draw(rows)
        rows, tokens = _clear(sampler, rows, tokens)
        if rows:
            sampler.advance(rows, tokens)
    return [sampler.found[job] for job in jobs]


@dataclass
class _Rows:
    """The completions under way; a row's latest token stands last."""

    jobs: list[int]
    cache: RowsCache
    real: Tensor  # Bool [b, L]: places that hold tokens
    position: Tensor  # Long [b], of the next token in its sequence
    uniform: Tensor  # Double [b, T], a random number for each token
    drawn: Tensor  # Long [b], tokens so far
    hidden: Tensor  # [b, D], predicts the next token

    def keep(self, rows: list[int]) -> None:
        """Only these rows, and only the places that one of them uses."""
        index = torch.tensor(rows, device=self.real.device)
        self.jobs = [self.jobs[row] for row in rows]
        self.cache.batch_select_indices(index)
        for name in ("real", "position", "uniform", "drawn", "hidden"):
            setattr(self, name, getattr(self, name)[index])
        unused = self.real.shape[1] - int(self.real.sum(1).max())
        if unused:
            self.cache.trim(unused)
            self.real = self.real[:, unused:]

    def add(self, other: _Rows) -> None:
        """The other's rows behind these."""
        self.cache.join(other.cache)
        self.jobs = self.jobs + other.jobs
        length = max(self.real.shape[1], other.real.shape[1])
        self.real = torch.cat([pad(rows.real, (length - rows.real.shape[1], 0)) for rows in (self, other)])
        for name in ("position", "uniform", "drawn", "hidden"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))


def _admit(sampler: _Sampler, waiting: deque[int], rows: _Rows | None, size: int) -> _Rows:
    """Start waiting completions in free places, where there are enough of either to be worth it."""
    free = size - (len(rows.jobs) if rows else 0)
    count = min(free, len(waiting))
    if rows and count < min(max(1, size * _WORTH_MOVING), len(waiting) or size):
        return rows
    new = sampler.start([waiting.popleft() for _ in range(count)])
    if not rows:
        return new
    rows.add(new)
    return rows


def _clear(sampler: _Sampler, rows: _Rows, tokens: Tensor) -> tuple[_Rows | None, Tensor]:
    """Let ended completions go, where there are enough of them to be worth it."""
    under_way = [row for row, job in enumerate(rows.jobs) if job not in sampler.found]
    if not under_way:
        return None, tokens
    if len(under_way) <= len(rows.jobs) * (1 - _WORTH_MOVING):
        rows.keep(under_way)
        tokens = tokens[torch.tensor(under_way, device=tokens.device)]
    return rows, tokens


class _Sampler:
    """The passes, and what they drew."""

    def __init__(self, policy: Policy, prompts: list[list[int]], sampling: Sampling) -> None:
        self.policy, self.prompts, self.sampling = policy, prompts, sampling
        self.length = sampling.max_completion_length
        self.decoder: Any = policy.model.get_decoder()
        self.eos_ids = policy.eos_ids
        self.under_way: dict[int, tuple[list[int], list[float]]] = {}
        self.found: dict[int, Completion] = {}

    def start(self, jobs: list[int]) -> _Rows:
        """Rows of new completions, each prompt among them computed once."""
        device, group = self.policy.device, self.sampling.num_samples
        numbers = list(dict.fromkeys(job // group for job in jobs))
        ids, mask = (x.to(device) for x in left_padded([self.prompts[i] for i in numbers], self.policy.pad_id))
        cache = RowsCache(self.policy.model)
        position = (mask.cumsum(1) - 1).clamp(min=0)
        out = self.decoder(
            input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        )
        of = torch.tensor([numbers.index(job // group) for job in jobs], device=device)
        cache.batch_select_indices(of)
        self.under_way |= {job: ([], []) for job in jobs}
        return _Rows(
            jobs=jobs,
            cache=cache,
            real=mask.bool()[of],
            position=mask.sum(1)[of],
            uniform=torch.stack([uniforms(self.sampling.seed, job, self.length) for job in jobs]).to(device),
            drawn=torch.zeros(len(jobs), dtype=torch.long, device=device),
            hidden=out.last_hidden_state[:, -1][of],
        )

    def draw(self, rows: _Rows) -> Tensor:
        """The next token of each row, Long [b]; what has ended by it is found."""
        temperature = self.sampling.temperature
        turn = rows.drawn.clamp(max=self.length - 1)  # rows that have ended may still stand there, and go on unheeded
        uniform = rows.uniform.gather(1, turn.unsqueeze(1)).squeeze(1)
        tokens, logprobs = draw(self.policy.head(rows.hidden), temperature, uniform)
        rows.drawn = rows.drawn + 1
        for job, token, logprob in zip(rows.jobs, tokens.tolist(), logprobs.tolist(), strict=True):
            if job not in self.found:
                self._note(job, token, None if temperature is None else logprob)
        return tokens

    def _note(self, job: int, token: int, logprob: float | None) -> None:
        ids, logprobs = self.under_way[job]
        ids.append(token)
        if logprob is not None:
            logprobs.append(logprob)
        ended = token in self.eos_ids
        if ended or len(ids) == self.length:
            self.found[job] = Completion(ids, truncated=not ended, logprobs=logprobs)
            del self.under_way[job]

    def advance(self, rows: _Rows, tokens: Tensor) -> None:
        """Run the tokens just drawn."""
        rows.real = pad(rows.real, (0, 1), value=True)
        with decode_attention(self.policy.model):
            out = self.decoder(
                input_ids=tokens.unsqueeze(1),
                attention_mask=rows.real[:, None, None, :],
                position_ids=rows.position.unsqueeze(1),
                past_key_values=rows.cache,
                use_cache=True,
            )
        rows.position = rows.position + 1
        rows.hidden = out.last_hidden_state[:, -1]
