"""Loading, and the check that our head is the model's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM

from nat_core.data import Example
from nat_core.demo.pretrain import build_tokenizer
from nat_core.errors import ModelError
from nat_core.kept import kept_logprobs
from nat_core.microbatch import plan_microbatches
from nat_core.model import Policy, load_policy, source_of
from nat_core.rollout.completion import Sampling
from nat_core.rollout.hf import generate
from nat_core.spec import FullBudget, ModelSpec, ResourcesSpec
from nat_core.token_selection import select_tokens
from tests.nat_core.builders import run_spec, save_tiny_model

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


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", b"\x08\0\0\0\0\0\0\0{}"), ("tokenizer.json", b"{}"), ("config.json", b"[]")],
)
def test_damaged_files_are_a_model_error(tmp_path: Path, name: str, content: bytes) -> None:
    save_tiny_model(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_policy(ModelSpec(path=str(tmp_path)), CPU)


def test_weights_that_are_pickled_are_not_read(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_policy(ModelSpec(path=str(tmp_path)), CPU)


def largest_gap(policy: Policy) -> float:
    """Between the log-probabilities noted while sampling and those of the update's own pass."""
    prompt = [5, 6, 7]
    (group,) = generate(policy, [prompt], Sampling(6, 10, 1.0, seed=0), max_batch_size=6)
    spec, gaps = run_spec(), []
    for completion in group:
        ids = torch.tensor(completion.ids)
        selection = select_tokens(FullBudget(), torch.tensor([len(ids)]), generator=torch.Generator())
        (micro,) = plan_microbatches([torch.tensor(prompt)], [ids], selection, spec.resources)
        with torch.no_grad():
            logprobs, _ = kept_logprobs(policy, micro, selection.keep, spec)
        gaps.append(float((logprobs[0] - torch.tensor(completion.logprobs)).abs().max()))
    return max(gaps)


def test_tokens_are_sampled_from_the_distribution_that_is_trained(tmp_path: Path) -> None:
    """Whatever the model's own generation defaults say, and with gradient checkpointing too."""
    save_tiny_model(tmp_path)
    defaults = {"eos_token_id": [1, 3], "repetition_penalty": 1.5, "min_p": 0.3, "suppress_tokens": [9], "top_k": 2}
    (tmp_path / "generation_config.json").write_text(json.dumps(defaults))
    plain = load_policy(ModelSpec(path=str(tmp_path)), CPU)
    assert plain.eos_ids == {1, 3}
    assert largest_gap(plain) < 1e-4
    checkpointed = load_policy(ModelSpec(path=str(tmp_path), gradient_checkpointing=True), CPU)
    assert largest_gap(checkpointed) < 1e-4 and checkpointed.model.training


def test_bfloat16_passes_keep_float32_weights_that_small_steps_can_move() -> None:
    policy = load_policy(ModelSpec(dtype="bfloat16"), CPU)
    assert {parameter.dtype for parameter in policy.parameters} == {torch.float32}
    hidden = policy.hidden_states(torch.tensor([[5, 6, 7]]))
    assert policy.head(hidden[0]).dtype == torch.bfloat16
    assert largest_gap(policy) < 0.1
    before = [parameter.detach().clone() for parameter in policy.parameters]
    optimizer = torch.optim.AdamW(policy.parameters, lr=1e-6, weight_decay=0.0)
    policy.head(hidden[0]).float().logsumexp(-1).sum().backward()
    optimizer.step()
    moved = torch.cat([(a != b.detach()).flatten() for a, b in zip(before, policy.parameters, strict=True)])
    assert float(moved.float().mean()) > 0.5


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


def test_words_for_the_template_reach_it_and_unheard_ones_are_refused(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if enable_thinking %}9{% endif %}="
    )
    path = str(save_tiny_model(tmp_path, tokenizer))

    def shown(**words: object) -> str:
        spec = ModelSpec.model_validate({"path": path, "chat_template": True, "chat_template_kwargs": words})
        policy = load_policy(spec, CPU)
        return policy.decode(policy.encode(Example("7", "")))

    assert (shown(), shown(enable_thinking=False), shown(enable_thinking=True)) == ("7=", "7=", "79=")
    with pytest.raises(ModelError, match=r"chat_template_kwargs holds enable_thought, .*never asks for it") as caught:
        shown(enable_thought=True)
    assert caught.value.faults[0].pointer == "/model/chat_template_kwargs"


@pytest.mark.parametrize("known", [True, False])
def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path, known: bool) -> None:
    """Neither where transformers knows the kind of model itself, nor where only that code does."""
    folder, ran = save_tiny_model(tmp_path / "model"), tmp_path / "ran"
    (folder / "foreign.py").write_text(f"open({str(ran)!r}, 'w').write('yes')\nclass Foreign: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"), "foreign.Foreign")
    config |= {} if known else {"model_type": "foreign", "architectures": ["Foreign"]}
    (folder / "config.json").write_text(json.dumps(config))
    if known:
        assert type(load_policy(ModelSpec(path=str(folder)), CPU).model).__name__ == "Qwen3ForCausalLM"
    else:
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_policy(ModelSpec(path=str(folder)), CPU)
    assert not ran.exists()


def test_a_hub_id_is_read_at_the_pinned_revision_and_a_folder_as_it_is(tmp_path: Path) -> None:
    assert source_of(ModelSpec(path="owner/name", revision="abc")) == (
        "owner/name", {"trust_remote_code": False, "revision": "abc"},
    )  # fmt: skip
    save_tiny_model(tmp_path)
    assert source_of(ModelSpec(path=str(tmp_path), revision="abc")) == (str(tmp_path), {"trust_remote_code": False})


def test_attention_that_drops_out_does_not_where_layers_are_recomputed(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    policy = load_policy(ModelSpec(path=str(folder), gradient_checkpointing=True), CPU)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert policy.model.training and policy.hidden_states(ids).equal(policy.hidden_states(ids))
