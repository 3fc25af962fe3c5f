"""Models and completions that only have sizes: what a step costs does not depend on what the weights say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerFast

from nat_core import adapter, quantized
from nat_core.batch import CompletionBatch
from nat_core.model import Policy, checkpoint_layers
from nat_core.spec import ModelSpec


def random_policy(config: PreTrainedConfig, device: torch.device, spec: ModelSpec, dtype: str = "float32") -> Policy:
    """A model of this configuration with random weights of one kind, made on the device.

    Args:
        dtype: of the weights themselves; the spec says what the passes run in.
    """
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.eval()
    if spec.lora.quantize != "none":
        quantized.quantize(model, spec, device)
    if spec.gradient_checkpointing:
        checkpoint_layers(model)
    if spec.lora.r is not None:
        adapter.attach(model, spec)
    return Policy(model, bare_tokenizer(), device, spec)


def bare_tokenizer() -> PreTrainedTokenizerFast:
    """For a model whose tokens stand for nothing: padding, and no end of sequence."""
    words = Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>")


def random_completions(prompt: int, group: int, lengths: Sequence[int], vocabulary: int) -> CompletionBatch:
    """Random tokens, every completion live, with log-probabilities as a rollout would give.

    Args:
        prompt: tokens of every prompt.
        group: completions of one prompt.
        lengths: tokens of each completion.
    """
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> Tensor:
        return torch.randint(1, vocabulary, (count,), generator=generator)

    count = len(lengths)
    groups = [tokens(prompt) for _ in range(0, count, group)]
    return CompletionBatch(
        prompts=[groups[i // group] for i in range(count)],
        completions=[tokens(length) for length in lengths],
        advantages=torch.tensor([1.0, -1.0] * count)[:count],
        truncated=torch.zeros(count, dtype=torch.bool),
        rollout_logprobs=[-torch.empty(length).exponential_(generator=generator) for length in lengths],
    )
