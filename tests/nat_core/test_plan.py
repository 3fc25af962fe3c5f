"""What is predicted of a step against what a step does."""

from __future__ import annotations

import copy
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from bench.contenders import natlab
from bench.shapes import SHAPES, Lengths, policy_of, random_batch, read_lengths
from nat_core.cost import ModelShape, plan_step
from nat_core.cost.drawn import _COUPLED
from nat_core.cost.memory import activations, copies, passes_bytes
from nat_core.cost.reach import _LAWS
from nat_core.drawing import draw_step
from nat_core.errors import ModelError
from nat_core.gradient import _forward_backward, accumulate_gradient
from nat_core.logprobs import _AT_A_TIME
from nat_core.microbatch import plan_microbatches
from nat_core.spec import FullBudget, RpcBudget, RunSpec, parse_run_spec
from nat_core.token_selection.laws import LAWS
from nat_core.token_selection.prefix import COUPLINGS
from tests.nat_core.shapes_only import Ledger, ShapesOnly

CPU = torch.device("cpu")
RAGGED = read_lengths("ragged-16")
LONG = Lengths("", prompt=20, group=4, lengths=[400, 90, 800, 260, 31, 620, 555, 77])
BUDGETS: list[dict[str, Any]] = [
    {"selector": "full"},
    {"selector": "urs", "fraction": 0.3},
    {"selector": "importance", "fraction": 0.3},
    {"selector": "completions", "fraction": 0.5, "weighting": "flat"},
    {"selector": "rpc", "fraction": 0.5},
    {"selector": "rpc", "fraction": 0.25, "coupling": "systematic"},
    {"selector": "rpc", "fraction": 0.7, "law": "uniform"},
    {"selector": "truncate", "fraction": 0.4},
]


def spec_for(budget: dict[str, Any], **sections: Any) -> RunSpec:
    rollout = {"num_generations": 4, "max_completion_length": 1000}
    return parse_run_spec({"budget": budget, "rollout": rollout, **sections})


def in_groups_of_8(spec: RunSpec) -> RunSpec:
    """As the completions of `RAGGED` are."""
    return spec.model_copy(update={"rollout": spec.rollout.model_copy(update={"num_generations": RAGGED.group})})


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: "-".join(map(str, b.values())))
def test_tokens_and_operations_are_what_selections_take_on_average(budget: dict[str, Any]) -> None:
    policy, batch, spec = policy_of("toy", CPU), random_batch(LONG, 64), spec_for(budget)
    planned = plan_step(spec, ModelShape.of_config(SHAPES["toy"].to_dict()), LONG.prompt, LONG.lengths)
    assert planned.tokens_generated == sum(LONG.lengths)
    contender, generator = natlab(policy, batch, spec.budget, spec.resources), torch.Generator().manual_seed(0)
    # Whole completions vary more than tokens, of which each step has thousands.
    draws, tolerance = {"full": (2, 0.05), "completions": (40, 0.12)}.get(spec.budget.selector, (12, 0.05))
    done = [contender(generator) for _ in range(draws)]
    assert planned.tokens_selected == pytest.approx(fmean(work.kept for work in done), rel=tolerance)
    assert planned.flops == pytest.approx(fmean(work.flops for work in done), rel=tolerance)


@pytest.mark.parametrize("resources", [{"per_device_train_batch_size": 4}, {"max_tokens_per_microbatch": 600}])
@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: "-".join(map(str, b.values())))
def test_the_largest_micro_batch_is_as_large_as_in_steps_that_are_drawn(
    budget: dict[str, Any], resources: dict[str, Any]
) -> None:
    """Larger than an even share: of a few rows some are cut late. Of each plan the number is held, too."""
    policy, batch, spec = policy_of("toy", CPU), random_batch(RAGGED, 64), spec_for(budget, resources=resources)
    spec = in_groups_of_8(spec)
    planned = plan_step(spec, ModelShape.of_config(SHAPES["toy"].to_dict()), RAGGED.prompt, RAGGED.lengths)
    generator, largest, counts = torch.Generator().manual_seed(0), [], []
    for _ in range(150):
        step = draw_step(policy, batch, spec, generator)
        rows, cost = step.rows, policy.token_cost
        plan = plan_microbatches(rows.prompts, rows.completions, step.selection, spec.resources, cost=cost)
        largest.append(max(micro.tokens.num_places for micro in plan))
        counts.append(len(plan))
    assert planned.largest_microbatch == pytest.approx(fmean(largest), rel=0.05)
    assert planned.num_microbatches == pytest.approx(fmean(counts), abs=0.6)


@pytest.mark.parametrize("name", ["smollm2-135m", "qwen3-8b"])
def test_a_shape_counts_what_the_model_has(name: str) -> None:
    shape, policy = ModelShape.of_config(SHAPES[name].to_dict()), policy_of(name, torch.device("meta"))
    assert shape.token_cost == policy.token_cost
    assert shape.parameters == pytest.approx(sum(p.numel() for p in policy.parameters), rel=1e-3)


@pytest.mark.parametrize("model", [{}, {"lora": {"r": 4}}], ids=["all weights", "adapters"])
def test_activations_are_what_autograd_keeps(model: dict[str, Any]) -> None:
    shape = ModelShape.of_config(SHAPES["toy"].to_dict())
    spec = spec_for({"selector": "full"}, model=model, resources={"max_tokens_per_microbatch": 100_000})
    policy, kept = policy_of("toy", CPU, spec.model), dict[int, int]()
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    batch = random_batch(LONG, 64)
    step = draw_step(policy, batch, spec, torch.Generator())

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.shape[-1] != 64:  # logits are a part of their own
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        accumulate_gradient(policy, None, step, spec)
    planned = plan_step(spec, shape, LONG.prompt, LONG.lengths)
    assert activations(spec.model, shape, planned.largest_microbatch) == pytest.approx(sum(kept.values()), rel=0.25)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "layers made again"])
@pytest.mark.parametrize(
    ("weights", "passes"), [("float32", "float32"), ("float32", "bfloat16"), ("bfloat16", "bfloat16")]
)
@pytest.mark.parametrize(("name", "size"), [("smollm2-135m", 8), ("qwen3-8b", 4)])
def test_memory_of_a_micro_batch_is_what_its_tensors_take(
    name: str, size: int, weights: str, passes: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On tensors that only have shapes, at the benchmarks' widths and lengths: the second micro-batch of its kind."""
    monkeypatch.setitem(_AT_A_TIME, "cpu", _AT_A_TIME["cuda"])  # each operation on shapes takes its time
    config = copy.deepcopy(SHAPES[name])
    config.num_hidden_layers = 8
    if name == "qwen3-8b":
        config.layer_types = config.layer_types[:8]
    lengths = read_lengths({"smollm2-135m": "ragged-16", "qwen3-8b": "long-16"}[name])
    model = {"dtype": passes, "gradient_checkpointing": checkpointing}
    spec = spec_for({"selector": "full"}, model=model, resources={"per_device_train_batch_size": size})
    with ShapesOnly() as shapes:
        policy = shapes.policy(config, spec.model, weights)
        step = draw_step(policy, random_batch(lengths, 64), spec, torch.Generator())
        rows, cost = step.rows, policy.token_cost
        plan = plan_microbatches(rows.prompts, rows.completions, step.selection, spec.resources, cost=cost)
        micro = max(plan, key=lambda micro: micro.tokens.num_places)
        with Ledger(policy) as ledger:
            for _ in range(2):
                gradients = ledger.most = ledger.held
                with policy.attention_for(micro.tokens):
                    _forward_backward(policy, None, step, micro, spec, None)
    wide = {"float32": 4, "bfloat16": 2}[weights]
    assert gradients == pytest.approx(wide * policy.num_parameters, rel=0.01)
    shape, selected = ModelShape.of_config(config.to_dict()), int(step.selection.rows(micro.rows).keep.sum())
    planned = passes_bytes(spec, shape, micro.tokens.num_places, selected, wide)
    planned += copies(spec.model, shape) if wide == 4 else 0
    assert planned == pytest.approx(ledger.most - gradients, rel=0.25)


def test_bfloat16_copies_of_the_matrices_are_planned_for() -> None:
    shape = ModelShape.of_config(SHAPES["smollm2-135m"].to_dict())
    layers = shape.token_cost.trunk_weights / 1024**3
    for model, size in (
        ({}, None),
        ({"dtype": "bfloat16"}, 2 * layers),
        ({"dtype": "bfloat16", "gradient_checkpointing": True}, 2 * layers / 30),
        ({"dtype": "bfloat16", "lora": {"r": 4}}, None),  # held so from the start
    ):
        planned = plan_step(spec_for({"selector": "full"}, model=model), shape, 10, [500])
        assert planned.memory_gib.get("bfloat16 copies") == (size and pytest.approx(size))


def test_memory_has_what_training_keeps_and_falls_with_the_budget() -> None:
    shape = ModelShape.of_config(SHAPES["smollm2-135m"].to_dict())
    resources = {"per_device_train_batch_size": 8}
    full, half = (
        plan_step(in_groups_of_8(spec_for(budget, resources=resources)), shape, RAGGED.prompt, RAGGED.lengths)
        for budget in (FullBudget().model_dump(), RpcBudget().model_dump())
    )
    assert full.num_microbatches == half.num_microbatches == 2
    # Not by half: of two micro-batches of eight rows the larger is 57% of what it was.
    assert 0.54 < half.memory_gib["activations"] / full.memory_gib["activations"] < 0.60
    assert full.memory_gib["optimizer"] == 2 * full.memory_gib["weights"]
    checkpointed = plan_step(spec_for({"selector": "full"}, model={"gradient_checkpointing": True}), shape, 10, [500])
    plain = plan_step(spec_for({"selector": "full"}), shape, 10, [500])
    assert checkpointed.memory_gib["activations"] < plain.memory_gib["activations"] / 5
    with_reference = plan_step(spec_for({"selector": "full"}, objective={"beta": 0.1}), shape, 10, [10])
    assert with_reference.memory_gib["reference"] == with_reference.memory_gib["weights"]


def test_gradients_of_a_single_micro_batch_take_the_place_of_its_activations() -> None:
    shape = ModelShape.of_config(SHAPES["smollm2-135m"].to_dict())
    one = plan_step(spec_for({"selector": "full"}), shape, 10, [500, 500]).memory_gib
    two = plan_step(spec_for({"selector": "full"}, resources={"max_tokens_per_microbatch": 520}), shape, 10, [500, 500])
    half = plan_step(spec_for({"selector": "full"}), shape, 10, [500]).memory_gib
    assert "logits" not in plan_step(spec_for({"selector": "full"}), shape, 1, [1]).memory_gib
    assert two.num_microbatches == 2 and two.memory_gib["gradients"] == one["gradients"] == one["weights"]
    above_one, above_half, above_two = (m["activations"] + m["logits"] for m in (one, half, two.memory_gib))
    assert above_two == pytest.approx(above_half + one["gradients"], rel=0.05) and above_one < 2 * above_two


ONE_EACH = {"per_device_train_batch_size": 1}
LORA = {"lora": {"r": 8}}


@pytest.mark.parametrize("modules", ["all-linear", "q_proj, down_proj"])
def test_a_plan_counts_the_adapters_that_the_model_gets(modules: str) -> None:
    model = {"lora": {"r": 8, "target_modules": modules}}
    spec = spec_for({"selector": "full"}, model=model)
    policy, shape = policy_of("toy", CPU, spec.model), ModelShape.of_config(SHAPES["toy"].to_dict())
    assert shape.adapted_cost(spec.model.lora) == policy.token_cost
    assert policy.token_cost.adapter_weights == sum(p.numel() for p in policy.parameters)
    planned = plan_step(spec, shape, LONG.prompt, LONG.lengths)
    done = natlab(policy, random_batch(LONG, 64), spec.budget, spec.resources)(torch.Generator())
    assert planned.flops == pytest.approx(done.flops, rel=0.01)


def test_memory_with_adapters_is_theirs_and_the_frozen_model_s_once() -> None:
    shape = ModelShape.of_config(SHAPES["smollm2-135m"].to_dict())

    def memory(**model: Any) -> dict[str, float]:
        spec = spec_for({"selector": "full"}, model=model, objective={"beta": 0.1}, resources=ONE_EACH)
        return plan_step(spec, shape, 10, [10, 10]).memory_gib  # two micro-batches

    gib = 1024**3
    whole, adapted, half, quarter = (
        memory(), memory(**LORA), memory(**LORA, dtype="bfloat16"), memory(lora={"r": 8, "quantize": "nf4"}),
    )  # fmt: skip
    adapters = shape.adapter_weights(parse_run_spec({"model": LORA}).model.lora)
    assert adapted["gradients"] == 4 * adapters / gib and adapted["optimizer"] == 8 * adapters / gib
    assert adapted["weights"] == pytest.approx(whole["weights"] + 4 * adapters / gib)
    assert "reference" in whole and "reference" not in adapted
    layers = shape.token_cost.trunk_weights
    assert adapted["weights"] - half["weights"] == pytest.approx(2 * layers / gib)
    assert adapted["weights"] - quarter["weights"] == pytest.approx((4 - 0.516) * layers / gib, rel=1e-3)


def test_a_plan_knows_every_law_and_coupling_that_training_has() -> None:
    assert _COUPLED.keys() == COUPLINGS.keys() and _LAWS.keys() == LAWS.keys()


def test_a_config_that_is_missing_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        ModelShape.read(tmp_path)
    with pytest.raises(ModelError, match="experts"):
        ModelShape.of_config({"model_type": "qwen3_moe", "num_experts": 8})
    with pytest.raises(ModelError, match="lacks"):
        ModelShape.of_config({"model_type": "rwkv"})
