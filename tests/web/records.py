"""Small hand-made records for the figures' tests."""

from __future__ import annotations

from typing import Any

from nat_core.comparison import CellComparison, Comparison, Estimate, Verdict


def estimate(mean: float, low: float | None = None, high: float | None = None, num_seeds: int = 5) -> Estimate:
    return Estimate(mean=mean, low=low, high=high, num_seeds=num_seeds)


def cell(number: int, label: str, accuracy: Estimate | None, share: float | None, **more: Any) -> CellComparison:
    fields: dict[str, Any] = {
        "cell": number,
        "label": label,
        "biased": False,
        "num_runs": 5,
        "num_finished": 5,
        "accuracy": accuracy,
        "fraction": None if share is None else estimate(share),
        "verdict": Verdict.BASELINE if number == 0 else Verdict.INCONCLUSIVE,
        "verdict_text": "",
    }
    return CellComparison(**{**fields, **more})


def comparison(*cells: CellComparison, margin: float = 0.01, best: int | None = None) -> Comparison:
    return Comparison(
        baseline=0, margin=margin, headline="h", detail="d", tone="warn", best_cell=best, cells=list(cells)
    )
