"""Loading, and the check that our head is the model's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM

from nat_core.data import Example
from nat_core.demo.pretrain import build_tokenizer
from nat_core.errors import ModelError
from nat_core.model import load_policy
from nat_core.spec import ModelSpec, ResourcesSpec
from tests.nat_core.builders import save_tiny_model

SHAPE = {
    "vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None,
}  # fmt: skip
CPU = ResourcesSpec(device="cpu")


def save(model: torch.nn.Module, folder: Path) -> str:
    model.save_pretrained(folder)  # type: ignore[operator]
    build_tokenizer().save_pretrained(folder)
    return str(folder)


def test_the_demo_model_loads_and_is_small() -> None:
    policy = load_policy(ModelSpec(), CPU)
    assert sum(parameter.numel() for parameter in policy.parameters) < 900_000
    ids = policy.encode(Example("7a+5:", "2"))
    assert policy.decode(ids) == "7a+5:"


def test_soft_capped_logits_are_the_models_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.05, query_pre_attn_scalar=8)
    policy = load_policy(ModelSpec(path=save(Gemma2ForCausalLM(config), tmp_path)), CPU)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.allclose(policy.model(input_ids=ids).logits[0], policy.head(policy.hidden_states(ids)[0]))


def test_a_head_that_scales_its_logits_is_refused(tmp_path: Path) -> None:
    path = save(CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.1)), tmp_path)
    with pytest.raises(ModelError, match="makes its logits in a way natlab does not know"):
        load_policy(ModelSpec(path=path), CPU)


def test_a_folder_that_is_no_model_says_why(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_policy(ModelSpec(path=str(tmp_path)), CPU)
    assert "\n" not in caught.value.message


def test_a_chat_template_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = str(save_tiny_model(tmp_path))
    with pytest.raises(ModelError, match=r"model.chat_template is true"):
        load_policy(ModelSpec(path=path, chat_template=True), CPU)


def test_chat_template_and_system_prompt_wrap_the_prompt(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'][0] }}{{ m['content'] }}{% endfor %}="
    path = str(save_tiny_model(tmp_path, tokenizer))
    policy = load_policy(ModelSpec(path=path, chat_template=True, system_prompt="1"), CPU)
    assert policy.decode(policy.encode(Example("7", ""))) == "s1u7="


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    path, found = str(save_tiny_model(tmp_path)), []
    for flag in (False, True):
        policy = load_policy(ModelSpec(path=path, gradient_checkpointing=flag), CPU)
        policy.hidden_states(torch.tensor([[5, 6, 7]])).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in policy.parameters if p.grad is not None]))
    assert torch.allclose(*found, atol=1e-6)
