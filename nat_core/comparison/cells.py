"""One budget beside the baseline: differences and savings paired by seed, and its verdict."""

from __future__ import annotations

from collections.abc import Callable

from nat_core.comparison.records import CellComparison, Estimate, RunOutcome, Verdict
from nat_core.comparison.statistics import mean_interval, shows_spread, wilson_interval
from nat_core.comparison.wording import verdict_text
from nat_core.records import RunState
from nat_core.spec import ExperimentSpec

_SAVED: dict[str, Callable[[RunOutcome], float | None]] = {
    "tokens_selected": lambda run: run.tokens_selected / run.step if run.step else None,
    "tokens_trunk": lambda run: run.tokens_trunk / run.step if run.step else None,
    "forward_backward_s": lambda run: run.forward_backward_s / run.step if run.step else None,
    "step_s": lambda run: run.step_s / run.step if run.step else None,
    "peak_memory_gib": lambda run: run.peak_memory_gib,
}

Runs = dict[int, RunOutcome]  # by seed


def _finished(runs: Runs) -> Runs:
    return {seed: run for seed, run in runs.items() if run.state is RunState.SUCCEEDED and run.accuracy is not None}


def _paired(runs: Runs, baseline: Runs, quantity: Callable[[RunOutcome], float | None]) -> list[tuple[float, float]]:
    """(cell, baseline) values of the seeds that both finished."""
    ours, theirs = _finished(runs), _finished(baseline)
    pairs = ((quantity(ours[seed]), quantity(theirs[seed])) for seed in sorted(ours.keys() & theirs.keys()))
    return [(own, other) for own, other in pairs if own is not None and other is not None]


def paired_differences(runs: Runs, baseline: Runs) -> list[float]:
    return [own - other for own, other in _paired(runs, baseline, lambda run: run.accuracy)]


def compare_cell(spec: ExperimentSpec, cell: int, by_cell: dict[int, Runs], passing: set[int]) -> CellComparison:
    runs, baseline = by_cell[cell], by_cell[spec.baseline]
    shown = _finished(runs) or runs  # a run at its start beside finished ones would only blur the mean
    is_baseline = cell == spec.baseline
    differences = [] if is_baseline else paired_differences(runs, baseline)
    verdict = _verdict(cell, is_baseline, differences, spec.margin, passing)
    return CellComparison(
        cell=cell,
        label=spec.budgets[cell].label,
        biased=spec.budgets[cell].biased,
        num_runs=len(runs),
        num_finished=len(_finished(runs)),
        accuracy=_accuracy(shown),
        difference=mean_interval(differences) if differences else None,
        verdict=verdict,
        verdict_text=verdict_text(verdict, differences, spec.margin),
        fraction=_estimate(
            shown, lambda run: run.tokens_selected / run.tokens_generated if run.tokens_generated else None
        ),
        tokens_selected=_estimate(shown, lambda run: run.tokens_selected if run.step else None),
        tokens_trunk=_estimate(shown, lambda run: run.tokens_trunk if run.step else None),
        forward_backward_s=_estimate(shown, _SAVED["forward_backward_s"]),
        step_s=_estimate(shown, _SAVED["step_s"]),
        peak_memory_gib=_estimate(shown, _SAVED["peak_memory_gib"]),
        savings={} if is_baseline else _savings(runs, baseline),
    )


def _accuracy(runs: Runs) -> Estimate | None:
    known = [run for run in runs.values() if run.accuracy is not None]
    if not known:
        return None
    estimate = mean_interval([run.accuracy for run in known if run.accuracy is not None])
    if len(known) == 1 and known[0].num_answers:
        low, high = wilson_interval(estimate.mean, known[0].num_answers)
        return Estimate(mean=estimate.mean, low=low, high=high, num_seeds=1)
    return estimate


def _estimate(runs: Runs, quantity: Callable[[RunOutcome], float | None]) -> Estimate | None:
    values = [value for value in map(quantity, runs.values()) if value is not None]
    return mean_interval(values) if values else None


def _savings(runs: Runs, baseline: Runs) -> dict[str, Estimate]:
    """Share saved of each quantity against the same seed's baseline."""
    found = {}
    for key, quantity in _SAVED.items():
        saved = [1 - own / other for own, other in _paired(runs, baseline, quantity) if other > 0]
        if saved:
            found[key] = mean_interval(saved)
    return found


def _verdict(cell: int, is_baseline: bool, differences: list[float], margin: float, passing: set[int]) -> Verdict:
    if is_baseline:
        return Verdict.BASELINE
    if not differences:
        return Verdict.PENDING
    if len(differences) == 1:
        return Verdict.NO_CLAIM
    if cell in passing:
        return Verdict.NON_INFERIOR
    high = mean_interval(differences).high
    below = high is not None and high < -margin and shows_spread(differences)
    return Verdict.INFERIOR if below else Verdict.INCONCLUSIVE


def best_cell(cells: list[CellComparison]) -> int | None:
    """The unbiased cell that passes with the smallest share of tokens, of those that save any."""
    passed = [
        c
        for c in cells
        if c.verdict is Verdict.NON_INFERIOR
        and not c.biased
        and c.fraction is not None
        and "tokens_selected" in c.savings
        and c.savings["tokens_selected"].mean > 0
    ]
    return min(passed, key=lambda c: c.fraction.mean if c.fraction else 1.0).cell if passed else None
