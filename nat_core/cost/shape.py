"""A model's sizes, read from its `config.json`: enough to count its weights, operations and activations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nat_core.cost.flops import TokenCost
from nat_core.errors import ModelError
from nat_core.spec import LoraSpec

_NORMED_HEADS = ("qwen3", "olmo2", "gemma3_text")  # these normalise queries and keys once more
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a dense decoder with gated feed-forward layers, as Llama, Mistral and Qwen are.

    Attributes:
        queries: heads x head dimension.
        keys: key-value heads x head dimension.
        normed_heads: whether queries and keys are normalised.
    """

    hidden: int
    intermediate: int
    layers: int
    queries: int
    keys: int
    vocabulary: int
    tied: bool
    normed_heads: bool = False

    @classmethod
    def read(cls, folder: Path) -> ModelShape:
        """Of the model in a folder.

        Raises:
            ModelError: no config there that can be read, or a model whose sizes mean something else.
        """
        path = folder / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            remedy = "a plan needs a model's folder, so set model.path to one"
            raise ModelError(f"{path} cannot be read ({error}); {remedy}") from None
        return cls.of_config(config)

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Of a decoded `config.json`; see `read`."""
        config = config.get("text_config") or config
        kind = config.get("model_type")
        if any(config.get(name) for name in _EXPERTS):
            raise ModelError(f"model type {kind} has experts, whose cost is not counted yet; plan a dense model")
        try:
            heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
            head = int(config.get("head_dim") or hidden // heads)
            return cls(
                hidden=hidden,
                intermediate=int(config["intermediate_size"]),
                layers=int(config["num_hidden_layers"]),
                queries=heads * head,
                keys=int(config.get("num_key_value_heads") or heads) * head,
                vocabulary=int(config["vocab_size"]),
                tied=bool(config.get("tie_word_embeddings", True)),
                normed_heads=kind in _NORMED_HEADS,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the config of model type {kind} lacks what a plan needs ({error})") from None

    @property
    def token_cost(self) -> TokenCost:
        """Operations of one token's forward and backward pass."""
        per_layer = 2 * self.hidden * (self.queries + self.keys) + 3 * self.hidden * self.intermediate
        return TokenCost(
            trunk_weights=self.layers * per_layer,
            attention_width=self.layers * self.queries,
            head_weights=self.hidden * self.vocabulary,
        )

    def adapted_cost(self, lora: LoraSpec) -> TokenCost:
        """The same where adapters are trained, if the spec has any."""
        return replace(self.token_cost, adapter_weights=self.adapter_weights(lora))

    def adapter_weights(self, lora: LoraSpec) -> int:
        """Weights of the adapters beside the matrices that `target_modules` names; others are not known here."""
        asked = self.matrices if lora.modules is None else lora.modules
        sides = sum(sum(self.matrices.get(name, ())) for name in asked)
        return (lora.r or 0) * self.layers * sides

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """What each of a layer's matrices reads and makes, by the name that Llama, Mistral and Qwen give it."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def parameters(self) -> int:
        """Weights, biases and norms of head dimension left out."""
        embeddings = (1 if self.tied else 2) * self.hidden * self.vocabulary
        return self.token_cost.trunk_weights + embeddings + (2 * self.layers + 1) * self.hidden

    def activation_bytes(self, dtype: str) -> int:
        """Of one token in one layer, what the backward pass needs: inputs of norms, matrices, attention and gate."""
        normed = 2 * (self.queries + self.keys) if self.normed_heads else 0
        attention = 3 * self.queries + 2 * self.keys
        if dtype == "bfloat16":  # norms stay in float32, matrices read bfloat16 copies of what they made
            return 20 * self.hidden + 2 * attention + 4 * normed + 8 * self.intermediate
        return 4 * (6 * self.hidden + attention + normed + 4 * self.intermediate)
