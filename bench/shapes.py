"""Models by their shape, with random weights: what a step costs does not depend on what the weights say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, LlamaConfig, Qwen3Config

from nat_core.batch import CompletionBatch
from nat_core.model import Policy, load_policy
from nat_core.random_model import random_completions, random_policy
from nat_core.spec import ModelSpec, ResourcesSpec

_NO_ENDS: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": None, "bos_token_id": None}

SHAPES: dict[str, Any] = {
    "smollm2-135m": LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        **_NO_ENDS,
    ),
    "qwen3-8b": Qwen3Config(
        vocab_size=151_936,
        hidden_size=4096,
        intermediate_size=12_288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40_960,
        tie_word_embeddings=False,
        **_NO_ENDS,
    ),
    "toy": LlamaConfig(
        vocab_size=64,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        **_NO_ENDS,
    ),
}


@dataclass(frozen=True)
class Lengths:
    """A committed list of completion lengths.

    Attributes:
        prompt: tokens of every prompt.
        group: completions of one prompt.
    """

    about: str
    prompt: int
    group: int
    lengths: list[int]

    def times(self, factor: int) -> Lengths:
        """The same lengths again and again, each copy in groups of its own."""
        return Lengths(self.about, self.prompt, self.group, self.lengths * factor)

    def held_to(self, longest: int) -> Lengths:
        """The same lengths, none above this one."""
        held = [min(length, longest) for length in self.lengths]
        return Lengths(f"{self.about}; held to {longest}", self.prompt, self.group, held)


def read_lengths(name: str) -> Lengths:
    """A list in `bench/lengths`, by name."""
    return Lengths(**json.loads((Path(__file__).parent / "lengths" / f"{name}.json").read_text()))


def config_of(shape: str) -> Any:
    """The configuration of a named shape, or of the model in a directory."""
    return SHAPES[shape] if shape in SHAPES else AutoConfig.from_pretrained(Path(shape).expanduser())


def policy_of(shape: str, device: torch.device, spec: ModelSpec | None = None, dtype: str = "float32") -> Policy:
    """A model of a named shape with random weights of one kind, made on the device; or one from a directory.

    Args:
        dtype: of the weights themselves; the spec says what the passes run in.
    """
    spec = spec or ModelSpec()
    if shape not in SHAPES:
        return load_policy(spec.model_copy(update={"path": shape}), ResourcesSpec(device=device.type))  # type: ignore[arg-type]
    return random_policy(SHAPES[shape], device, spec, dtype)


def random_batch(lengths: Lengths, vocabulary: int) -> CompletionBatch:
    """Random tokens of these lengths."""
    return random_completions(lengths.prompt, lengths.group, lengths.lengths, vocabulary)
