"""The optimizer, its schedules, and clipping by the global norm."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nat_core.optim import build_optimizer, build_schedule
from nat_core.spec import OptimSpec
from nat_core.update import update_step
from tests.nat_core.builders import batch, gradients, run_spec, tiny_policy


def test_the_optimizer_is_fused_adamw_as_the_spec_says() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    spec = OptimSpec(learning_rate=0.1, weight_decay=0.5, adam_beta1=0.8, adam_beta2=0.9)
    optimizer = build_optimizer([weight], spec)
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]
    weight.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    # AdamW's first step: decay by 1 - 0.1 x 0.5, then 0.1 against the gradient's sign.
    assert torch.allclose(weight.detach(), torch.tensor([0.95 - 0.1, -1.9 - 0.1]), atol=1e-6)
    weight.grad = torch.tensor([-3.0, 4.0])
    optimizer.step()
    mean, square = (0.8 * 0.2 * 3 - 0.2 * 3) / (1 - 0.8**2), (0.9 * 0.1 * 9 + 0.1 * 9) / (1 - 0.9**2)
    assert float(weight.detach()[0]) == pytest.approx(0.85 * 0.95 - 0.1 * mean / math.sqrt(square), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, (1 + math.cos(math.pi / 4)) / 2, 0.5, (1 - math.cos(math.pi / 4)) / 2]),
    ],
)
def test_schedules_warm_up_and_then_fall_to_nothing_at_the_last_step(kind: str, expected: list[float]) -> None:
    spec = OptimSpec.model_validate({"learning_rate": 0.2, "warmup_steps": 2, "lr_scheduler_type": kind})
    optimizer = build_optimizer([nn.Parameter(torch.zeros(1))], spec)
    schedule = build_schedule(optimizer, spec, total_steps=6)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.2 * factor for factor in expected])
    if kind != "constant":
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


@pytest.mark.parametrize("limit", [1e-3, 1e9])
def test_the_gradient_is_clipped_to_its_global_norm_and_reported_before(limit: float) -> None:
    rows = batch([3, 4], [6, 5], [1.0, -0.5])
    found = []
    for most in (1e9, limit):
        policy = tiny_policy()
        spec = run_spec(budget={"selector": "full"}, optim={"max_grad_norm": most})
        optimizer = torch.optim.SGD(policy.parameters, lr=0.0)
        stats = update_step(policy, optimizer, rows, spec, generator=torch.Generator())
        found.append((gradients(policy), stats.metrics["grad_norm"]))
    (whole, norm), (clipped, reported) = found
    assert reported == pytest.approx(norm) == pytest.approx(float(whole.norm())) and norm > 1e-3
    factor = min(1.0, limit / norm)  # torch adds 1e-6 to the norm it divides by
    assert torch.allclose(clipped, factor * whole, rtol=2e-3, atol=0)
