"""That the update's passes read no number on the way, which on a GPU would wait for all that was started before."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from bench.shapes import SHAPES
from nat_core.drawing import draw_step
from nat_core.gradient import _forward_backward
from nat_core.microbatch import plan_microbatches
from nat_core.spec import ModelSpec
from tests.nat_core.builders import run_spec
from tests.nat_core.shapes_only import ShapesOnly
from tests.nat_core.test_update import SAMPLED, TWO_GROUPS

ROWS = dataclasses.replace(TWO_GROUPS, rollout_logprobs=SAMPLED)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "recomputed"])
@pytest.mark.parametrize("selector", ["full", "urs", "rpc"])
def test_passes_wait_for_no_number(selector: str, checkpointing: bool) -> None:
    spec = run_spec(
        budget={"selector": selector},
        objective={"beta": 0.1, "entropy_coef": 0.1, "rollout_is": "token", "num_iterations": 2},
        rollout={"max_completion_length": 16, "temperature": 0.8},
        resources={"max_tokens_per_microbatch": 24, "logprob_chunk_tokens": 3},
    )
    model = ModelSpec(dtype="bfloat16", gradient_checkpointing=checkpointing)
    with ShapesOnly() as shapes:
        policy, reference = (shapes.policy(SHAPES["toy"], model, "bfloat16") for _ in range(2))
        reference.model.requires_grad_(False)
        step = draw_step(policy, ROWS, spec, torch.Generator().manual_seed(5))
        step = dataclasses.replace(step, old_logprobs=torch.zeros(step.selection.keep.shape))
        rows, cost = step.rows, policy.token_cost
        plan = plan_microbatches(rows.prompts, rows.completions, step.selection, spec.resources, cost=cost)
        sums = []
        for micro in plan:
            with policy.attention_for(micro.tokens):
                sums.append(_forward_backward(policy, reference, step, micro, spec, None))
        gradients = [parameter.grad for parameter in policy.parameters]
        assert {"loss", "kl", "entropy", "clip_ratio", "rollout_is_ratio"} <= sums[0].keys()
        assert all(gradient is not None and gradient.dtype == torch.bfloat16 for gradient in gradients)
        with pytest.raises(DataDependentOutputException):
            float(sums[0]["loss"])  # so nothing before has done so
