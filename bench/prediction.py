"""What `nat_core.cost` says of the benchmark's cases before they run, beside what they did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench.shapes import Lengths, config_of
from nat_core.cost import ModelShape, Rates, plan_step
from nat_core.cost.memory import passes_bytes
from nat_core.measure import measure_rates
from nat_core.spec import BudgetSpec, ModelSpec, ResourcesSpec, RolloutSpec, RunSpec

Row = dict[str, Any]

PREDICTED = ("seconds", "flops", "kept_tokens", "allocated_gib")


def rates_of(shape: str, device: torch.device, spec: ModelSpec, dtype: str = "float32") -> Rates:
    """This machine's rates for a shape, measured now; `dtype` of the weights."""
    return measure_rates(config_of(shape), device, spec, dtype)


def expected(
    budget: BudgetSpec,
    resources: ResourcesSpec,
    lengths: Lengths,
    shape: str,
    model: ModelSpec,
    rates: Rates | None = None,
    wide: int = 4,
) -> dict[str, float]:
    """What a step takes, by the names that measured rows have.

    `allocated_gib` is what tensors take above weights and gradients at the peak; `activations_gib` leaves out that
    gradients take activations' place.

    Args:
        wide: bytes of a weight.
        rates: of the device; without them there are no seconds.
    """
    spec = RunSpec(
        budget=budget,
        resources=resources,
        model=model,
        rollout=RolloutSpec(num_generations=lengths.group, max_completion_length=max(lengths.lengths)),
    )
    shaped = ModelShape.of_config(config_of(shape).to_dict())
    plan = plan_step(spec, shaped, lengths.prompt, lengths.lengths, rates)
    found = {
        "flops": plan.flops,
        "kept_tokens": plan.tokens_selected,
        "allocated_gib": plan.memory_gib["activations"] + plan.memory_gib["logits"],
        "activations_gib": passes_bytes(spec, shaped, plan.largest_microbatch, plan.selected_of_largest, wide)
        / 1024**3,
    }
    return found if plan.seconds is None else found | {"seconds": plan.seconds}


def predict(
    rows: Sequence[Row],
    budgets: Sequence[BudgetSpec],
    resources: ResourcesSpec,
    lengths: Lengths,
    shape: str,
    rates: Rates,
    model: ModelSpec,
) -> None:
    """Put `predicted` and `off` (predicted over measured, less 1) into the rows of these budgets, in their order."""
    for row, budget in zip(rows, budgets, strict=False):
        told = expected(budget, resources, lengths, shape, model, rates)
        row["predicted"] = {name: told[name] for name in PREDICTED}
        row["off"] = {name: row["predicted"][name] / row[name] - 1 for name in PREDICTED if row.get(name)}
