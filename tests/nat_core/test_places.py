"""A run that may ask for more tokens than a model has places for ends before its first step."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM, PreTrainedModel

from nat_core.demo.pretrain import build_tokenizer
from nat_core.spec import RunSpec
from nat_core.trainer import Trainer
from tests.nat_core.builders import run_spec, save_tiny_model

TOKENIZER = build_tokenizer()
ENDS = {"vocab_size": len(TOKENIZER), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}


def small(kind: str) -> PreTrainedModel:
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**ENDS, n_positions=40, n_embd=16, n_layer=1, n_head=2))
    return OPTForCausalLM(
        OPTConfig(
            **ENDS, max_position_embeddings=40, hidden_size=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2
        )
    )


def spec_for(folder: Path, completion: int) -> RunSpec:
    rollout = {"num_prompts": 2, "num_generations": 2, "max_completion_length": completion}
    return run_spec(
        model={"path": str(folder)},
        data={"type": "demo_arithmetic", "min_operations": 1, "max_operations": 3},
        rollout=rollout,
        steps=1,
        evaluation={"every": 0, "num_prompts": 2},
    )


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_learned_positions_are_held_to_their_number(kind: str, tmp_path: Path) -> None:
    small(kind).save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    # Prompts of three operations have 11 tokens; 11 + 30 are one more than the places, but the last is only predicted.
    result = Trainer(spec_for(tmp_path / "model", 31), tmp_path / "refused").train()
    assert (result.outcome, result.reason, result.steps) == ("failed", "bad_spec", 0)
    assert result.message is not None and "has places for 40 tokens, and the longest prompt takes 11" in result.message
    assert "use 30 at most" in result.message
    assert Trainer(spec_for(tmp_path / "model", 30), tmp_path / "trained").train().outcome == "succeeded"


def test_rotary_positions_go_on(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")  # made for 256
    assert Trainer(spec_for(tmp_path / "model", 300), tmp_path / "run").train().outcome == "succeeded"
