"""QLoRA: 4-bit weights that stay, on any machine; bitsandbytes computes on a CPU, too."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from nat_core import adapter, measure, quantized
from nat_core.cost import Rates
from nat_core.errors import ModelError
from nat_core.model import load_policy
from nat_core.spec import ModelSpec, ResourcesSpec
from nat_core.update import update_step
from tests.nat_core.builders import batch, run_spec, save_tiny_model, tiny_model

CPU = ResourcesSpec(device="cpu")
NF4 = ModelSpec.model_validate({"lora": {"r": 4, "quantize": "nf4"}})
IDS = torch.tensor([[5, 6, 7, 8]])


def test_four_bits_hold_the_matrices_and_count_as_what_they_stand_for() -> None:
    policy, whole = load_policy(NF4, CPU), load_policy(ModelSpec(), CPU)
    layer = policy.model.get_decoder().layers[0].mlp.up_proj.base_layer
    assert layer.weight.dtype == torch.uint8 and layer.weight.numel() * 2 == layer.in_features * layer.out_features
    assert policy.token_cost.trunk_weights == whole.token_cost.trunk_weights
    assert policy.num_parameters == whole.num_parameters + policy.token_cost.adapter_weights
    with torch.no_grad():
        rounded, exact = policy.hidden_states(IDS), whole.hidden_states(IDS)
    assert not rounded.equal(exact)
    assert torch.nn.functional.cosine_similarity(rounded.flatten(), exact.flatten(), dim=0) > 0.9


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_go_through_four_bits_after_sampling_as_before(dtype: str) -> None:
    """bitsandbytes packs weights anew for inference on some CPUs, and then passes no gradient on."""
    policy = load_policy(NF4.model_copy(update={"dtype": dtype}), CPU)
    with torch.no_grad():
        for weight in policy.parameters:
            weight.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    trained = policy.parameters

    def gradient() -> torch.Tensor:
        loss = policy.hidden_states(IDS).float().square().sum()
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, trained)])

    before = gradient()
    with torch.no_grad():
        policy.hidden_states(IDS)
    assert before.equal(gradient()) and bool(before.isfinite().all())
    # A plain model with the weights that the 4 bits stand for has the same gradient.
    policy.model.dequantize(dtype=torch.float32)
    assert torch.nn.functional.cosine_similarity(gradient(), before, dim=0) > (0.999 if dtype == "float32" else 0.99)


def test_a_step_with_kl_trains_beside_four_bits() -> None:
    policy = load_policy(NF4, CPU)
    rows = batch([3, 3], [6, 2], [1.0, -0.5])
    spec = run_spec(objective={"beta": 0.1}, budget={"selector": "full"})
    before = [weight.detach().clone() for weight in policy.parameters]
    optimizer = torch.optim.AdamW(policy.parameters, lr=1e-2)
    for _ in range(2):
        stats = update_step(policy, optimizer, rows, spec, generator=torch.Generator(), reference=policy.reference())
    assert stats.metrics["kl"] > 0 and stats.metrics["grad_norm"] > 0
    assert any(not a.equal(b.detach()) for a, b in zip(before, policy.parameters, strict=True))


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r"model.lora.quantize is set, which needs bitsandbytes .*natlab\[qlora\]"):
        load_policy(NF4, CPU)


def test_a_model_that_was_never_loaded_is_brought_into_the_same_4_bits_as_one_that_was(tmp_path: Path) -> None:
    spec = NF4.model_copy(update={"path": str(save_tiny_model(tmp_path))})
    loaded = load_policy(spec, CPU)
    made = tiny_model(len(loaded.tokenizer))
    quantized.quantize(made, spec, torch.device("cpu"))
    adapter.attach(made, spec)
    for ours, theirs in zip(made.get_decoder().layers, loaded.model.get_decoder().layers, strict=True):
        for name in ("self_attn.q_proj", "mlp.down_proj"):
            one, other = (layer.get_submodule(name).base_layer for layer in (ours, theirs))
            assert one.weight.dtype == torch.uint8 and one.weight.equal(other.weight)
            assert quantized.whole(one).equal(quantized.whole(other))
    with torch.no_grad():
        assert made(input_ids=IDS).logits.equal(loaded.model(input_ids=IDS).logits)


def test_the_speed_of_four_bits_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize, asked = quantized.quantize, []
    monkeypatch.setattr(quantized, "quantize", lambda *model: (asked.append(model), quantize(*model)))
    monkeypatch.setattr("sys.argv", ["measure", "demo", "--device", "cpu", "--lora-r", "4", "--lora-quantize", "nf4"])
    measure.main()
    rates = Rates(**json.loads(capsys.readouterr().out))
    assert len(asked) == 2 and rates.seconds(1, 1000, 0, 0) > rates.seconds(1, 10, 0, 0) > 0
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(SystemExit, match=r"natlab\[qlora\]"):
        measure.main()
