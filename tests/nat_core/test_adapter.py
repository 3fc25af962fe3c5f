"""LoRA: what is trained, what is kept of it, and that the model without it is the reference."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from nat_core import adapter
from nat_core.drawing import draw_step
from nat_core.errors import ModelError
from nat_core.extras import import_without, required
from nat_core.gradient import accumulate_gradient
from nat_core.kept import kept_logprobs
from nat_core.microbatch import plan_microbatches
from nat_core.model import DEMO_DIR, Policy, load_policy
from nat_core.rollout.completion import Sampling
from nat_core.rollout.hf import generate, waits_for_the_longest
from nat_core.spec import FullBudget, ModelSpec, ResourcesSpec
from nat_core.token_selection import select_tokens
from nat_core.update import update_step
from tests.nat_core.builders import adapted_policy, batch, gradients, run_spec, tiny_policy

CPU = ResourcesSpec(device="cpu")
BATCH = batch([3, 3, 5], [6, 2, 4], [1.0, -0.5, 0.7])
IDS = torch.tensor([[5, 6, 7, 8]])


def lora(**fields: object) -> ModelSpec:
    return ModelSpec.model_validate({"lora": {"r": 4, **fields}})


def logprobs_of(policy: Policy) -> torch.Tensor:
    selection = select_tokens(FullBudget(), BATCH.lengths, generator=torch.Generator())
    (micro,) = plan_microbatches(BATCH.prompts, BATCH.completions, selection, ResourcesSpec(), policy.layout)
    return kept_logprobs(policy, micro, selection.keep[micro.rows], run_spec())[0][micro.rows.argsort()]


def by_hand(policy: Policy) -> torch.Tensor:
    """Each completion's log-probabilities by plain passes of the whole model."""
    found = torch.zeros(len(BATCH.completions), int(BATCH.lengths.max()), dtype=torch.float64)
    for row, (prompt, completion) in enumerate(zip(BATCH.prompts, BATCH.completions, strict=True)):
        logits = policy.model(input_ids=torch.cat([prompt, completion]).unsqueeze(0)).logits[0]
        steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        found[row, : len(completion)] = steps.gather(1, completion.unsqueeze(1)).squeeze(1)
    return found


def test_only_adapters_are_trained_and_a_fresh_one_adds_nothing() -> None:
    plain, policy = load_policy(ModelSpec(), CPU), load_policy(lora(), CPU)
    assert {id(p) for p in policy.parameters} == {id(p) for p in adapter.weights(policy.model).values()}
    assert policy.num_parameters == plain.num_parameters + sum(p.numel() for p in policy.parameters)
    with torch.no_grad():
        assert policy.hidden_states(IDS).equal(plain.hidden_states(IDS))
    # 7 matrices a layer, each with 4 x (what it reads + what it makes).
    layers = plain.model.get_decoder().layers
    sides = sum(m.in_features + m.out_features for m in layers[0].modules() if isinstance(m, torch.nn.Linear))
    assert sum(p.numel() for p in policy.parameters) == 4 * sides * len(layers)


def test_a_step_moves_the_adapters_and_nothing_else() -> None:
    policy = adapted_policy()
    before = copy.deepcopy(policy.model.state_dict())
    trained = {name for name, weight in policy.model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.SGD(policy.parameters, lr=0.1)
    update_step(policy, optimizer, BATCH, run_spec(budget={"selector": "full"}), generator=torch.Generator())
    moved = {name for name, weight in policy.model.state_dict().items() if not weight.equal(before[name])}
    assert moved == trained and all(".lora_" in name for name in moved)


def test_packed_passes_take_adapters_as_the_model_does() -> None:
    policy = adapted_policy()
    assert policy.layout == "packed"
    found, expected = logprobs_of(policy), by_hand(policy)
    assert torch.allclose(found, expected, atol=1e-10)
    own = torch.autograd.grad(found.sum(), policy.parameters)
    theirs = torch.autograd.grad(expected.sum(), policy.parameters)
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(own, theirs, strict=True))
    assert any(float(a.abs().max()) > 1e-3 for a in own)


def test_the_reference_is_the_same_model_with_the_adapters_off() -> None:
    policy, base = adapted_policy(), tiny_policy()
    reference = policy.reference()
    assert reference.model is policy.model  # no second copy
    with torch.no_grad():
        expected = by_hand(base)
        assert torch.allclose(logprobs_of(reference), expected, atol=1e-12)
        assert not torch.allclose(logprobs_of(policy), expected, atol=1e-3)
    assert len(policy.parameters) == len(adapter.weights(policy.model))  # they are trained again


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_gradient_with_kl_is_that_with_a_copy_as_reference(checkpointing: bool) -> None:
    spec, found = run_spec(objective={"beta": 0.3}, budget={"selector": "full"}), []
    for own in (True, False):
        policy = adapted_policy()
        if checkpointing and own:
            policy.model.gradient_checkpointing_enable({"use_reentrant": False})
            policy.model.train()
        reference = policy.reference() if own else tiny_policy()
        step = draw_step(policy, BATCH, spec, torch.Generator())
        passes = accumulate_gradient(policy, reference, step, spec)
        assert passes.sums["kl"] > 0
        found.append(gradients(policy))
    assert torch.allclose(*found, atol=1e-12) and float(found[0].norm()) > 1e-3


def test_checkpointed_layers_ask_for_no_gradient_below_frozen_embeddings() -> None:
    found = []
    for flag in (False, True):
        torch.manual_seed(0)
        policy = load_policy(lora().model_copy(update={"gradient_checkpointing": flag}), CPU)
        for name, weight in adapter.weights(policy.model).items():
            torch.nn.init.constant_(weight, 0.01 if "lora_B" in name else 0.02)
        asked: list[bool] = []
        policy.model.get_input_embeddings().register_forward_hook(
            lambda *a, asked=asked: asked.append(a[2].requires_grad)
        )
        policy.hidden_states(IDS).sum().backward()
        assert asked[0] is False
        found.append(gradients(policy))
    assert torch.allclose(*found, atol=1e-5) and float(found[0].norm()) > 0


def test_rollouts_sample_from_the_adapted_model_without_waiting() -> None:
    policy = adapted_policy()
    assert waits_for_the_longest(policy) is None
    prompts = [[5, 6, 7], [8, 9]]
    groups = generate(policy, prompts, Sampling(3, 6, 0.8, seed=3), max_batch_size=4)
    with torch.no_grad():
        for prompt, group in zip(prompts, groups, strict=True):
            for completion in group:
                logits = policy.model(input_ids=torch.tensor([prompt + completion.ids])).logits[0] / 0.8
                own = logits.log_softmax(-1)[len(prompt) - 1 : -1]
                told = torch.tensor(completion.logprobs, dtype=torch.float64)
                assert torch.allclose(own[range(len(told)), completion.ids], told, atol=1e-5)


def test_frozen_matrices_in_bfloat16_make_the_same_numbers_in_half_of_the_memory() -> None:
    spec = lora().model_copy(update={"dtype": "bfloat16"})
    torch.manual_seed(0)
    policy = load_policy(spec, CPU)
    whole = load_policy(ModelSpec(dtype="bfloat16"), CPU)
    layer = policy.model.get_decoder().layers[0].mlp.up_proj
    assert layer.base_layer.weight.dtype == torch.bfloat16
    assert {weight.dtype for weight in policy.parameters} == {torch.float32}
    with torch.no_grad():
        hidden = policy.hidden_states(IDS)
        assert hidden.equal(whole.hidden_states(IDS))
        assert policy.head(hidden[0]).equal(whole.head(hidden[0]))


def test_layers_may_be_named_and_wrong_names_are_refused() -> None:
    policy = load_policy(lora(target_modules="q_proj, v_proj"), CPU)
    assert {name.split(".")[-3] for name in adapter.weights(policy.model)} == {"q_proj", "v_proj"}
    with pytest.raises(ModelError, match=r"target_modules names qkv, .* take from .*q_proj") as caught:
        load_policy(lora(target_modules="q_proj, qkv"), CPU)
    assert caught.value.faults[0].pointer == "/model/lora/target_modules"
    with pytest.raises(ModelError, match="names lm_head"):
        load_policy(lora(target_modules="lm_head"), CPU)


def test_a_missing_package_is_said_with_the_extra_that_brings_it() -> None:
    with pytest.raises(ModelError, match=r"model.lora.r is set, which needs no_such_thing .* 'natlab\[trainer\]'"):
        required("no_such_thing", "trainer", "model.lora.r")


def test_a_package_may_be_loaded_without_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fetching.py").write_text("try:\n    import kernels\nexcept ImportError:\n    kernels = None\n")
    (tmp_path / "kernels.py").write_text("loaded = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert import_without("fetching", "kernels").kernels is None
    assert "kernels" not in sys.modules


def test_operations_count_frozen_weights_less() -> None:
    whole, adapted = load_policy(ModelSpec(), CPU).token_cost, load_policy(lora(), CPU).token_cost
    assert (adapted.trunk_weights, adapted.head_weights) == (whole.trunk_weights, whole.head_weights)
    small = adapted.adapter_weights
    assert adapted.linear(1) == 4 * whole.trunk_weights + 6 * small and whole.linear(1) == 6 * whole.trunk_weights
    assert adapted.head(1) == 4 * whole.head_weights
    assert adapted.attention(7) == whole.attention(7)


def test_peft_reads_what_is_kept(tmp_path: Path) -> None:
    import peft

    from nat_core.weights import save_weights

    policy = load_policy(lora(), CPU)
    with torch.no_grad():
        for weight in policy.parameters:
            weight.normal_(std=0.05)
        save_weights(policy, tmp_path / "model")
        assert not list((tmp_path / "model").glob("model*.safetensors"))
        base = AutoModelForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32)
        theirs = peft.PeftModel.from_pretrained(base, tmp_path / "model")
        expected = policy.model(input_ids=IDS).logits
        assert torch.allclose(theirs(input_ids=IDS).logits, expected, atol=1e-5)
