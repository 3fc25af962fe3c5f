"""What a checkpoint keeps of a model comes back whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MixtralConfig, MixtralForCausalLM

from nat_core.demo.pretrain import build_tokenizer
from nat_core.errors import CheckpointError
from nat_core.model import Policy
from nat_core.spec import ModelSpec
from nat_core.weights import load_weights, save_weights
from tests.nat_core.builders import adapted_policy, tiny_policy


def mixture(seed: int) -> Policy:
    """Experts, whose weights transformers names and shapes otherwise in memory than in files."""
    torch.manual_seed(seed)
    config = MixtralConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    return Policy(MixtralForCausalLM(config).eval(), build_tokenizer(), torch.device("cpu"), ModelSpec())


MAKERS = {
    "own head": lambda seed: tiny_policy(seed, torch.float32),
    "head of the embedding": lambda seed: tiny_policy(seed, torch.float32, tied=True),
    "adapters": lambda seed: adapted_policy(seed=seed),
    "experts": mixture,
}


def trained(policy: Policy) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in policy.parameters]


@pytest.mark.parametrize("kind", MAKERS)
def test_weights_come_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    one, other = MAKERS[kind](0), MAKERS[kind](1)
    expected = trained(one)
    assert any(not a.equal(b) for a, b in zip(expected, trained(other), strict=True))
    save_weights(one, tmp_path / "model")
    load_weights(other, tmp_path / "model")
    assert all(a.equal(b) for a, b in zip(expected, trained(other), strict=True))
    if kind == "head of the embedding":
        head, embedding = other.model.get_output_embeddings(), other.model.get_input_embeddings()
        assert head.weight is embedding.weight


@pytest.mark.parametrize("kind", ["own head", "head of the embedding", "adapters"])
@pytest.mark.parametrize("change", ["missing", "unknown", "reshaped"])
def test_other_weights_are_refused(kind: str, change: str, tmp_path: Path) -> None:
    policy = MAKERS[kind](0)
    save_weights(policy, tmp_path / "model")
    (file,) = (tmp_path / "model").glob("*.safetensors")
    weights = load_file(file)
    name = sorted(weights)[-1]
    if change == "missing":
        del weights[name]
    elif change == "unknown":
        weights["base.other.weight"] = weights[name].clone()
    else:
        weights[name] = torch.zeros(*weights[name].shape, 2)
    save_file(weights, file, metadata={"format": "pt"})
    before = trained(policy)
    with pytest.raises(CheckpointError, match="does not fit the model that the spec describes"):
        load_weights(policy, tmp_path / "model")
    assert all(a.equal(b) for a, b in zip(before, trained(policy), strict=True))
