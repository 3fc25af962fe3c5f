"""Completions by transformers' `generate`, in the trainer process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from nat_core.model import Policy


@dataclass(frozen=True)
class Completion:
    """Token ids of one completion, its end-of-sequence token included.

    `truncated` says that it hit the length limit before ending by itself.
    """

    ids: list[int]
    truncated: bool


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
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for start in range(0, len(jobs), max_batch_size):
            batch = jobs[start : start + max_batch_size]
            for i, completion in zip(batch, _generate_batch(policy, [prompts[i] for i in batch], config), strict=True):
                results[i].append(completion)
    return results


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
    output = model.generate(
        input_ids=ids.to(policy.device), attention_mask=mask.to(policy.device), generation_config=config
    )
    rows = output[:, ids.shape[1] :].tolist()
    return [_until_end(row, policy.eos_ids) for row in rows]


def _left_padded(prompts: list[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def _until_end(row: list[int], eos_ids: set[int]) -> Completion:
    end = next((position for position, token in enumerate(row) if token in eos_ids), None)
    return Completion(row, truncated=True) if end is None else Completion(row[: end + 1], truncated=False)
