"""What the list of experiments shows of each: much less than their records, which take long to read of many runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nat_core.comparison import Comparison
from nat_core.records import RunState


@dataclass(frozen=True)
class ListedRun:
    """How far a run is."""

    state: RunState
    step: int
    steps: int
    eta_s: float | None


@dataclass(frozen=True)
class ListedExperiment:
    """A row of the list; `comparison` has its budgets and its answer."""

    id: str
    name: str
    tags: Sequence[str]
    created_at: datetime
    state: str
    runs: Sequence[ListedRun]
    comparison: Comparison
