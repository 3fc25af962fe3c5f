"""What a token budget cost and what it saved: cells of an experiment compared with its baseline.

One pure module, shared by the API, the pages and the command line. Every cell is a budget; the runs
of a cell differ only in their seed, and cells are compared **paired by seed**: with the same seed
they see the same prompts, initial weights and rollout streams.
"""

from __future__ import annotations

from nat_core.comparison.cells import best_cell, compare_cell, paired_differences
from nat_core.comparison.records import CellComparison, Comparison, Estimate, RunOutcome, Verdict
from nat_core.comparison.statistics import (
    mean_interval,
    non_inferiority_p,
    passing_cells,
    seeds_to_settle,
    wilson_interval,
)
from nat_core.comparison.wording import answer, warnings
from nat_core.spec import ExperimentSpec

__all__ = [
    "CellComparison",
    "Comparison",
    "Estimate",
    "RunOutcome",
    "Verdict",
    "compare",
    "mean_interval",
    "non_inferiority_p",
    "passing_cells",
    "seeds_to_settle",
    "wilson_interval",
]


def compare(spec: ExperimentSpec, outcomes: list[RunOutcome]) -> Comparison:
    """Compare the cells of an experiment with its baseline.

    Decision per cell: a one-sided paired t-test of "difference <= -margin" at 2.5%. Fractions of one selector are
    tested in falling order and stop at the first failure; see `passing_cells` for how selectors share the level.
    Intervals are the plain 95% paired t ones, unadjusted. Biased cells are compared like the others and never named as
    the answer.

    Args:
        spec: budgets, baseline and margin.
        outcomes: one per run, in any order; runs that are not finished count as such.
    """
    by_cell = {cell: {o.seed: o for o in outcomes if o.cell == cell} for cell in range(len(spec.budgets))}
    p_values = {
        cell: non_inferiority_p(paired_differences(by_cell[cell], by_cell[spec.baseline]), spec.margin)
        for cell in by_cell
        if cell != spec.baseline
    }
    passing = passing_cells(spec, p_values)
    cells = [compare_cell(spec, cell, by_cell, passing) for cell in by_cell]
    best = best_cell(cells)
    headline, detail, tone = answer(spec, cells, best)
    return Comparison(
        baseline=spec.baseline,
        margin=spec.margin,
        headline=headline,
        detail=detail,
        tone=tone,
        best_cell=best,
        warnings=warnings(outcomes, cells),
        cells=cells,
    )
