"""What a comparison is made of and what it comes to: one outcome a run, one row a budget, one answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from nat_core.records import Record, RunState


class Verdict(StrEnum):
    """What the data say about "no more than `margin` below the baseline"."""

    BASELINE = "baseline"
    NON_INFERIOR = "non-inferior"
    INFERIOR = "inferior"
    INCONCLUSIVE = "inconclusive"
    NO_CLAIM = "no claim"  # a single seed: only the evaluation's own uncertainty is known
    PENDING = "pending"  # no finished pair yet


class RunOutcome(Record):
    """What the comparison needs to know of one run; sums are over all its steps so far."""

    run_id: str
    cell: int
    seed: int
    state: RunState
    step: int
    accuracy: float | None = Field(None, description="Latest accuracy of sampled answers, 0 to 1.")
    num_answers: int = Field(0, description="Sampled answers behind `accuracy`.")
    tokens_generated: float = 0
    tokens_selected: float = 0
    tokens_trunk: float = 0
    flops: float = Field(0, description="Operations of forward and backward passes; 0 where they were not counted.")
    forward_backward_s: float = 0
    update_s: float = 0
    step_s: float = 0
    peak_memory_gib: float | None = None
    hardware: dict[str, Any] | None = None


class Estimate(Record):
    """A mean over seeds with its 95% interval; the bounds are null where they cannot be known."""

    mean: float
    low: float | None = None
    high: float | None = None
    num_seeds: int


class CellComparison(Record):
    """One budget. Shares are 0 to 1; savings are shares of the baseline's (0.4 is 40% less)."""

    cell: int
    label: str
    biased: bool
    num_runs: int
    num_finished: int
    accuracy: Estimate | None = Field(None, description="Final accuracy; with one seed the interval is Wilson's.")
    difference: Estimate | None = Field(None, description="Accuracy minus the baseline's, paired by seed.")
    verdict: Verdict
    verdict_text: str = Field(description="The verdict in a sentence.")
    fraction: Estimate | None = Field(None, description="Tokens trained on, of tokens generated.")
    tokens_selected: Estimate | None = Field(None, description="Completion tokens trained on in the whole run.")
    tokens_trunk: Estimate | None = None
    forward_backward_s: Estimate | None = Field(None, description="Forward+backward seconds per step.")
    step_s: Estimate | None = Field(None, description="Seconds per step, rollout included.")
    peak_memory_gib: Estimate | None = None
    savings: dict[str, Estimate] = Field(
        default={}, description="Keys: tokens_selected, tokens_trunk, forward_backward_s, peak_memory_gib, step_s."
    )


class Comparison(Record):
    """An experiment's answer."""

    baseline: int
    margin: float
    headline: str = Field(description="The answer in a few words.")
    detail: str = Field(description="The numbers behind it, in a sentence or two.")
    tone: str = Field(description="`good`, `warn`, `bad` or `mute`: how to colour it.")
    best_cell: int | None = Field(description="The smallest budget that passes, if any does.")
    warnings: list[str] = []
    cells: list[CellComparison]
