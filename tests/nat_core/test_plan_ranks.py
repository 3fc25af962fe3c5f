"""What is predicted of each device where several train one run."""

from __future__ import annotations

from typing import Any

import pytest

from nat_core.cost import KNOWN, Lengths, expected_step, num_ranks
from nat_core.spec import RunSpec, parse_run_spec

SHAPE = KNOWN["Qwen/Qwen3-1.7B"]
LENGTHS = Lengths(100, 400)
BFLOAT16 = {"dtype": "bfloat16"}
CUT = ("weights", "gradients", "optimizer", "reference")


def spec_for(gpus: int | None, num_prompts: int = 16, cap: int = 4096, **sections: Any) -> RunSpec:
    rollout = {"num_prompts": num_prompts, "num_generations": 8, "max_completion_length": 800}
    resources = {"gpus": gpus, "max_tokens_per_microbatch": cap}
    return parse_run_spec({"rollout": rollout, "resources": resources, "budget": {"selector": "full"}, **sections})


def test_one_gpu_or_none_asked_for_is_one_device() -> None:
    assert [num_ranks(spec_for(gpus)) for gpus in (None, 0, 1, 4)] == [1, 1, 1, 4]
    assert expected_step(spec_for(1), SHAPE, LENGTHS) == expected_step(spec_for(None), SHAPE, LENGTHS)


def test_what_is_cut_is_cut_and_the_step_stays_what_it_is() -> None:
    spec = {"objective": {"beta": 0.1}}
    alone, each = (expected_step(spec_for(gpus, **spec), SHAPE, LENGTHS) for gpus in (1, 4))
    assert (each.tokens_generated, each.tokens_selected, each.flops) == (
        alone.tokens_generated, alone.tokens_selected, alone.flops
    )  # fmt: skip
    assert {name: each.memory_gib[name] for name in CUT} == {
        name: pytest.approx(alone.memory_gib[name] / 4) for name in CUT
    }
    assert each.num_microbatches == pytest.approx(alone.num_microbatches / 4, abs=1)
    assert 3000 < each.largest_microbatch <= 4096  # the cap is each device's own


def test_a_pass_gathers_a_layer_and_the_next_and_what_no_layer_owns() -> None:
    checkpointed, plain = (
        expected_step(spec_for(2, cap=65_536, model=BFLOAT16 | {"gradient_checkpointing": on}), SHAPE, LENGTHS)
        for on in (True, False)
    )
    layers = SHAPE.token_cost.trunk_weights
    layer, others = layers / SHAPE.layers, SHAPE.parameters - layers
    assert checkpointed.memory_gib["gathered"] == pytest.approx((12 * layer + 8 * others) / 1024**3)
    copies = plain.memory_gib["gathered"] - checkpointed.memory_gib["gathered"]
    assert copies == pytest.approx(2 * layers / 1024**3)


def test_sampling_decides_where_a_whole_copy_is_the_most_there_is() -> None:
    many = expected_step(spec_for(64, num_prompts=64, model={"gradient_checkpointing": True}), SHAPE, LENGTHS)
    assert many.memory_gib["copy for sampling"] == pytest.approx(4 * SHAPE.parameters / 1024**3)
    assert "activations" not in many.memory_gib
    assert many.total_gib > 4 * SHAPE.parameters / 1024**3


def test_fewer_prompts_than_devices_are_parted() -> None:
    alone, each = (expected_step(spec_for(gpus, num_prompts=2), SHAPE, LENGTHS) for gpus in (1, 4))
    own = each.num_microbatches * each.largest_microbatch
    assert own == pytest.approx(alone.tokens_trunk / 4, rel=0.2)  # half of a group each, with its prompt
    assert each.tokens_generated == alone.tokens_generated
