"""Completions by transformers' `generate`, in the trainer process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from nat_core.model import Policy, switch_dropout_off


@dataclass(frozen=True)
class Completion:
    """Token ids of one completion, its end-of-sequence token included.

    `truncated` says that it hit the length limit before ending by itself. `logprobs` are those of the sampling
    distribution, one a token; none for greedy completions.
    """

    ids: list[int]
    truncated: bool
    logprobs: list[float] = field(default_factory=list)


@torch.no_grad()
def generate(
    policy: Policy,
    prompts: list[list[int]],
    *,
    num_samples: int,
    max_completion_length: int,
    temperature: float | None,
    max_batch_size: int,
    seed: int,
) -> list[list[Completion]]:
    """Complete each prompt `num_samples` times.

    Args:
        prompts: token ids of each prompt.
        max_completion_length: longest completion, in tokens.
        temperature: of sampling; None decodes greedily. No top-k or top-p: log-probabilities stay those of the model.
        max_batch_size: completions sampled together.
        seed: of this call's own random stream; the process's other streams are left as they were.

    Returns:
        For each prompt its completions.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    jobs = [i for i in order for _ in range(num_samples)]
    results: list[list[Completion]] = [[] for _ in prompts]
    config = _generation_config(policy, max_completion_length, temperature)
    devices = [policy.device] if policy.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _sampling_mode(policy):
        torch.manual_seed(seed)
        for start in range(0, len(jobs), max_batch_size):
            batch = jobs[start : start + max_batch_size]
            for i, completion in zip(batch, _generate_batch(policy, [prompts[i] for i in batch], config), strict=True):
                results[i].append(completion)
    return results


@contextmanager
def _sampling_mode(policy: Policy) -> Iterator[None]:
    """Evaluation mode and the policy's precision; in training mode gradient checkpointing switches the cache off."""
    was_training = policy.model.training
    policy.model.eval()
    try:
        with policy.autocast():
            yield
    finally:
        if was_training:
            policy.model.train()
            switch_dropout_off(policy.model)


def _generation_config(policy: Policy, max_completion_length: int, temperature: float | None) -> GenerationConfig:
    sampling = {"do_sample": False} if temperature is None else {"do_sample": True, "temperature": temperature}
    return GenerationConfig(
        max_new_tokens=max_completion_length,
        eos_token_id=sorted(policy.eos_ids) or None,
        pad_token_id=policy.pad_id,
        top_k=0 if temperature is not None else None,
        top_p=1.0 if temperature is not None else None,
        **sampling,
    )


def _generate_batch(policy: Policy, prompts: list[list[int]], config: GenerationConfig) -> list[Completion]:
    ids, mask = _left_padded(prompts, policy.pad_id)
    model: Any = policy.model
    recorder = _LogprobRecorder(config.temperature) if config.do_sample else None
    output = model.generate(
        input_ids=ids.to(policy.device),
        attention_mask=mask.to(policy.device),
        generation_config=config,
        logits_processor=LogitsProcessorList([recorder] if recorder else []),
    )
    sampled = output[:, ids.shape[1] :]
    logprobs = recorder.of(sampled).tolist() if recorder else [[]] * len(prompts)
    return [_until_end(row, policy.eos_ids, lp) for row, lp in zip(sampled.tolist(), logprobs, strict=True)]


class _LogprobRecorder(LogitsProcessor):
    """Notes the log-probability of every sampled token while `generate` runs, holding one step's logits only.

    A step's token is known when the next step begins; custom processors run before `generate`'s own temperature.
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._pending: Tensor | None = None
        self._recorded: list[Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if self._pending is not None:
            self._recorded.append(_pick(self._pending, input_ids[:, -1]))
        self._pending = scores / self._temperature
        return scores

    def of(self, tokens: Tensor) -> Tensor:
        """Log-probabilities Float [B, T] of the sampled tokens Long [B, T]."""
        if len(self._recorded) < tokens.shape[1] and self._pending is not None:
            self._recorded.append(_pick(self._pending, tokens[:, -1]))
        return torch.stack(self._recorded[: tokens.shape[1]], dim=1)


def _pick(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - torch.logsumexp(logits, dim=-1)


def _left_padded(prompts: list[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def _until_end(row: list[int], eos_ids: set[int], logprobs: list[float]) -> Completion:
    end = next((position for position, token in enumerate(row) if token in eos_ids), None)
    length = len(row) if end is None else end + 1
    return Completion(row[:length], truncated=end is None, logprobs=logprobs[:length])
