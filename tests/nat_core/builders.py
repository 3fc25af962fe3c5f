"""Small real things for tests: batches, models, specs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from nat_core import adapter
from nat_core.batch import CompletionBatch
from nat_core.demo.pretrain import build_tokenizer
from nat_core.model import Policy
from nat_core.spec import ModelSpec, RunSpec, parse_run_spec


def tiny_model(vocabulary_size: int, seed: int = 0, tied: bool = False) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocabulary_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()


class ExactNorm(torch.nn.Module):
    """RMS norm in the type of its input: transformers' rounds to float32 on the way, which hides what is exact."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, getattr(norm, "variance_epsilon", None) or norm.eps
        self.shift = 1.0 if type(norm).__name__.startswith("Gemma") else 0.0  # theirs are around 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.shift + self.weight) * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))


def with_exact_norms(model: PreTrainedModel) -> PreTrainedModel:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                setattr(parent, name, ExactNorm(child))
    return model


Attention = Literal["sdpa", "eager"]


def tiny_policy(
    seed: int = 0, dtype: torch.dtype = torch.float64, tied: bool = False, attention: Attention = "sdpa"
) -> Policy:
    tokenizer = build_tokenizer()
    model = with_exact_norms(tiny_model(len(tokenizer), seed, tied))
    torch.nn.Module.to(model, dtype)
    return Policy(model, tokenizer, torch.device("cpu"), ModelSpec(attn_implementation=attention))


def soft_capped_policy(seed: int = 0) -> Policy:
    """A model whose logits are held to a twentieth, its head the embedding, in double precision."""
    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        final_logit_softcapping=0.05,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = with_exact_norms(Gemma2ForCausalLM(config).eval())
    torch.nn.Module.to(model, torch.float64)
    return Policy(model, tokenizer, torch.device("cpu"), ModelSpec())


def save_tiny_model(folder: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
    tokenizer = tokenizer or build_tokenizer()
    tiny_model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def batch(
    prompt_lengths: list[int], lengths: list[int], advantages: list[float], truncated: list[bool] | None = None
) -> CompletionBatch:
    generator = torch.Generator().manual_seed(7)

    def tokens(count: int) -> torch.Tensor:
        return torch.randint(2, 20, (count,), generator=generator)

    return CompletionBatch(
        prompts=[tokens(n) for n in prompt_lengths],
        completions=[tokens(n) for n in lengths],
        advantages=torch.tensor(advantages, dtype=torch.float64),
        truncated=torch.tensor(truncated or [False] * len(lengths)),
    )


OUR_ROWS = Path(__file__).parents[1] / "data" / "gsm8k" / "train.jsonl"
WHOLE_SETS = Path(os.environ.get("NATLAB_DATA_DIR", Path(__file__).parents[2].parent / "shared" / "data"))
needs_whole_gsm8k = pytest.mark.skipif(
    not (WHOLE_SETS / "gsm8k" / "train.jsonl").is_file(),
    reason=f"whole GSM8K missing: put train.jsonl and test.jsonl into {WHOLE_SETS}/gsm8k or set NATLAB_DATA_DIR",
)
needs_whole_math = pytest.mark.skipif(
    not (WHOLE_SETS / "math500" / "test.jsonl").is_file(),
    reason=f"whole MATH-500 missing: put test.jsonl into {WHOLE_SETS}/math500 or set NATLAB_DATA_DIR",
)


def run_spec(**sections: object) -> RunSpec:
    return parse_run_spec(sections)


def gradients(policy: Policy) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten().clone() for parameter in policy.parameters])  # type: ignore[union-attr]


def adapted_policy(rank: int = 4, seed: int = 0, **model: Any) -> Policy:
    """The tiny model in double precision with adapters that say something."""
    policy = tiny_policy(seed)
    spec = ModelSpec.model_validate({"lora": {"r": rank}, **model})
    adapter.attach(policy.model, spec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.parameters:
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return Policy(policy.model, policy.tokenizer, policy.device, spec)
