"""Completions by transformers' `generate`: for models whose attention or cache is not ours to arrange.

A batch runs until its last row has ended.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from nat_core.model import Policy
from nat_core.rollout.completion import Completion, Sampling

_STRIDE = 0x9E3779B97F4A7C15  # so that seeds of batches lie nowhere near each other


def sample(
    policy: Policy, prompts: list[list[int]], jobs: list[int], sampling: Sampling, max_batch_size: int
) -> list[Completion]:
    """Completions of `jobs`, in their order; job k is of prompt k // num_samples."""
    config = _generation_config(policy, sampling)
    results: list[Completion] = []
    with torch.random.fork_rng(devices=[policy.device] if policy.device.type == "cuda" else []):
        for start in range(0, len(jobs), max_batch_size):
            # By batch: another rank may have those before.
            torch.manual_seed((sampling.seed + _STRIDE * jobs[start]) % 2**63)
            batch = [prompts[job // sampling.num_samples] for job in jobs[start : start + max_batch_size]]
            results += _generate_batch(policy, batch, config)
    return results


def _generation_config(policy: Policy, sampling: Sampling) -> GenerationConfig:
    temperature = sampling.temperature
    chosen = {"do_sample": False} if temperature is None else {"do_sample": True, "temperature": temperature}
    return GenerationConfig(
        max_new_tokens=sampling.max_completion_length,
        eos_token_id=sorted(policy.eos_ids) or None,
        pad_token_id=policy.pad_id,
        top_k=0 if temperature is not None else None,
        top_p=1.0 if temperature is not None else None,
        **chosen,
    )


def _generate_batch(policy: Policy, prompts: list[list[int]], config: GenerationConfig) -> list[Completion]:
    ids, mask = left_padded(prompts, policy.pad_id)
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


def left_padded(prompts: list[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids Long [b, L] and mask Long [b, L] of prompts whose last tokens stand last."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def _until_end(row: list[int], eos_ids: set[int], logprobs: list[float]) -> Completion:
    end = next((position for position, token in enumerate(row) if token in eos_ids), None)
    length = len(row) if end is None else end + 1
    return Completion(row[:length], truncated=end is None, logprobs=logprobs[:length])
