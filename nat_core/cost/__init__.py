"""What a run's update steps cost, said before it starts: tokens, operations, memory, time. No torch here."""

from __future__ import annotations

from nat_core.cost.expected import Lengths, expected_lengths, spread
from nat_core.cost.flops import TokenCost
from nat_core.cost.models import KNOWN, shape_of
from nat_core.cost.plan import StepPlan, plan_step
from nat_core.cost.ranks import expected_step, num_ranks
from nat_core.cost.rates import Rates
from nat_core.cost.shape import ModelShape

__all__ = [
    "KNOWN",
    "Lengths",
    "ModelShape",
    "Rates",
    "StepPlan",
    "TokenCost",
    "expected_lengths",
    "expected_step",
    "num_ranks",
    "plan_step",
    "shape_of",
    "spread",
]
