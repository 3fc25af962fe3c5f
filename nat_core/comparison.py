"""What a token budget cost and what it saved: cells of an experiment compared with its baseline.

One pure module, shared by the API, the pages and the command line. Every cell is a budget; the runs
of a cell differ only in their seed, and cells are compared **paired by seed**: with the same seed
they see the same prompts, initial weights and rollout streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from itertools import takewhile
from statistics import NormalDist, stdev
from typing import Any

from pydantic import Field

from nat_core.records import Record, RunState
from nat_core.spec import ExperimentSpec


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
        cell: _p_value(_differences(by_cell[cell], by_cell[spec.baseline]), spec.margin)
        for cell in by_cell
        if cell != spec.baseline
    }
    passing = passing_cells(spec, p_values)
    cells = [_compare_cell(spec, cell, by_cell, passing) for cell in by_cell]
    best = _best(cells)
    headline, detail, tone = _answer(spec, cells, best)
    return Comparison(
        baseline=spec.baseline,
        margin=spec.margin,
        headline=headline,
        detail=detail,
        tone=tone,
        best_cell=best,
        warnings=_warnings(outcomes, cells),
        cells=cells,
    )


# --- statistics -----------------------------------------------------------------------------------

_LEVEL = 0.025  # one-sided


def mean_interval(values: list[float]) -> Estimate:
    """Mean with its 95% t interval; no bounds from a single value."""
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return Estimate(mean=mean, num_seeds=count)
    half = _t_quantile(1 - _LEVEL, count - 1) * _standard_error(values)
    return Estimate(mean=mean, low=mean - half, high=mean + half, num_seeds=count)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95% Wilson interval of a share seen in `count` independent answers."""
    z = NormalDist().inv_cdf(1 - _LEVEL)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def passing_cells(spec: ExperimentSpec, p_values: dict[int, float]) -> set[int]:
    """Cells whose non-inferiority holds under the multiple-testing rule; a cell without enough pairs has p = 1.

    Each selector family (selector and law) is tested from its largest fraction down and stops at the first failure. The
    families share the level equally; one that passes whole hands its share to the others, which for families of one
    cell is Holm's procedure. (A share is never both spent further down a family and handed on: Bretz et al. 2009.)
    """
    families: dict[tuple[str, str], list[int]] = {}
    for cell in p_values:
        budget = spec.budgets[cell]
        families.setdefault((budget.selector, getattr(budget, "law", "")), []).append(cell)
    for members in families.values():
        members.sort(key=lambda cell: -getattr(spec.budgets[cell], "fraction", 1.0))
    passing: set[int] = set()
    open_families = list(families.values())
    while open_families:
        rejected = {cell for cell, p in p_values.items() if p <= _LEVEL / len(open_families)}
        for members in open_families:
            passing.update(takewhile(rejected.__contains__, members))
        still_open = [members for members in open_families if not passing.issuperset(members)]
        if len(still_open) == len(open_families):
            break
        open_families = still_open
    return passing


def seeds_to_settle(differences: list[float], margin: float) -> int | None:
    """Seeds at which a 95% interval of this spread would clear the margin; None when no number would.

    The mean and spread seen so far are taken as true, so this is orientation, not a promise.
    """
    mean = sum(differences) / len(differences)
    gap = abs(mean + margin)
    spread = _standard_error(differences) * math.sqrt(len(differences))
    if gap == 0:
        return None
    for count in range(len(differences) + 1, 1001):
        if _t_quantile(1 - _LEVEL, count - 1) * spread / math.sqrt(count) < gap:
            return count
    return None


def _p_value(differences: list[float], margin: float) -> float:
    """One-sided paired t-test of "mean difference <= -margin".

    1 with fewer than two pairs, so that the test of a later budget waits for this one's; 1 also where all differences
    are exactly equal (nothing learnt anywhere, say), because no spread was seen to judge by.
    """
    error = _standard_error(differences) if len(differences) > 1 else 0.0
    if error == 0:
        return 1.0
    shift = sum(differences) / len(differences) + margin
    return 1 - _t_cdf(shift / error, len(differences) - 1)


def _standard_error(values: list[float]) -> float:
    return stdev(values) / math.sqrt(len(values))


def _t_quantile(probability: float, degrees: int) -> float:
    from scipy.special import stdtrit  # here, so that reading the models needs no scipy

    return float(stdtrit(degrees, probability))


def _t_cdf(value: float, degrees: int) -> float:
    from scipy.special import stdtr

    return float(stdtr(degrees, value))


# --- one cell -------------------------------------------------------------------------------------

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


def _differences(runs: Runs, baseline: Runs) -> list[float]:
    return [own - other for own, other in _paired(runs, baseline, lambda run: run.accuracy)]


def _compare_cell(spec: ExperimentSpec, cell: int, by_cell: dict[int, Runs], passing: set[int]) -> CellComparison:
    runs, baseline = by_cell[cell], by_cell[spec.baseline]
    shown = _finished(runs) or runs  # a run at its start beside finished ones would only blur the mean
    is_baseline = cell == spec.baseline
    differences = [] if is_baseline else _differences(runs, baseline)
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
        verdict_text=_verdict_text(verdict, differences, spec.margin),
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
    return Verdict.INFERIOR if high is not None and high < -margin else Verdict.INCONCLUSIVE


# --- words ----------------------------------------------------------------------------------------


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return _points(estimate.mean)
    return f"{_points(estimate.mean)} [{_points(estimate.low)}, {_points(estimate.high)}]"


def _margin_words(margin: float) -> str:
    points = f"{100 * margin:g}"
    return f"{points} point" + ("" if points == "1" else "s")


def _verdict_text(verdict: Verdict, differences: list[float], margin: float) -> str:
    within = _margin_words(margin)
    if verdict is Verdict.BASELINE:
        return "The baseline that the others are compared with."
    if verdict is Verdict.PENDING:
        return "Waiting for a finished run and its baseline with the same seed."
    shown = f"{_interval(mean_interval(differences))} points over {len(differences)} paired seeds"
    if verdict is Verdict.NO_CLAIM:
        return f"{_points(differences[0])} points with one seed: no claim about other seeds; run more."
    if verdict is Verdict.NON_INFERIOR:
        return f"Within {within} of the baseline: {shown}."
    if verdict is Verdict.INFERIOR:
        return f"More than {within} below the baseline: {shown}."
    needed = seeds_to_settle(differences, margin)
    more = f"about {needed} seeds would settle it" if needed else "more seeds would not settle it at this spread"
    return f"Undecided at a margin of {within}: {shown}; {more}."


def _best(cells: list[CellComparison]) -> int | None:
    """The unbiased cell that passes with the smallest share of tokens."""
    passed = [
        c
        for c in cells
        if c.verdict is Verdict.NON_INFERIOR
        and not c.biased
        and c.fraction is not None
        and "tokens_selected" in c.savings
    ]
    return min(passed, key=lambda c: c.fraction.mean if c.fraction else 1.0).cell if passed else None


def _answer(spec: ExperimentSpec, cells: list[CellComparison], best: int | None) -> tuple[str, str, str]:
    """Headline, detail and tone."""
    rivals = [cell for cell in cells if cell.verdict is not Verdict.BASELINE and not cell.biased]
    if best is not None:
        cell = cells[best]
        share = 1 - cell.savings["tokens_selected"].mean
        detail = f"{cell.label}: {cell.verdict_text} {_saved_words(cell)}"
        # Against the baseline, not against all generated: `full` itself leaves out what teaches nothing.
        return (
            f"{100 * share:.0f}% of the tokens that {cells[spec.baseline].label} trains on are enough here.",
            detail,
            "good",
        )
    if not rivals:
        return "Nothing to compare yet.", "Add an unbiased budget beside the baseline.", "mute"
    if all(cell.verdict is Verdict.PENDING for cell in rivals):
        return "No answer yet.", "The first runs are not finished; curves below show how far they are.", "mute"
    if all(cell.verdict in (Verdict.NO_CLAIM, Verdict.PENDING) for cell in rivals):
        closest = max((c for c in rivals if c.difference), key=lambda c: c.difference.mean if c.difference else -1.0)
        detail = f"{closest.label}: {closest.verdict_text} {_saved_words(closest)}"
        return "One seed makes no claim.", detail, "warn"
    if all(cell.verdict is Verdict.INFERIOR for cell in rivals):
        return "No smaller budget is enough here.", _every(rivals), "bad"
    return "Not settled yet.", _every(rivals), "warn"


def _every(cells: list[CellComparison]) -> str:
    return " ".join(f"{cell.label}: {cell.verdict_text}" for cell in cells)


def _saved_words(cell: CellComparison) -> str:
    if cell.fraction is None:
        return ""
    share = f"It trained on {100 * cell.fraction.mean:.1f}% of generated tokens"
    parts = [
        f"{abs(100 * saved.mean):.0f}% {_fewer(noun, saved.mean)}"
        for key, noun in _SAVED_NOUNS.items()
        if (saved := cell.savings.get(key)) is not None
    ]
    return f"{share}: {', '.join(parts)} than the baseline." if parts else f"{share}."


_SAVED_NOUNS = {
    "tokens_selected": "tokens",
    "forward_backward_s": "forward+backward time",
    "peak_memory_gib": "peak memory",
}


def _fewer(noun: str, saved: float) -> str:
    if saved < 0:
        return f"more {noun}"
    return f"{'fewer' if noun == 'tokens' else 'less'} {noun}"


_TIMES_DEPEND_ON = ("device", "cpu", "threads", "torch")


def _warnings(outcomes: list[RunOutcome], cells: list[CellComparison]) -> list[str]:
    known = [run.hardware for run in outcomes if run.hardware]
    found = []
    if len({tuple(str(hardware.get(key)) for key in _TIMES_DEPEND_ON) for hardware in known}) > 1:
        found.append("Runs used different hardware or software: their times and memory do not compare.")
    if any(hardware.get("neighbours") for hardware in known):
        found.append("Some runs shared their machine with other runs: their times do not compare.")
    failed = sum(run.state is RunState.FAILED for run in outcomes)
    if failed:
        found.append(f"{failed} run{'s' if failed > 1 else ''} failed and {'are' if failed > 1 else 'is'} left out.")
    biased = [cell.label for cell in cells if cell.biased]
    if biased:
        found.append(f"{', '.join(biased)}: biased, shown as a contrast and never recommended.")
    return found
