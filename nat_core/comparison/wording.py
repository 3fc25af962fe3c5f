"""Verdicts, savings and the experiment's answer in words."""

from __future__ import annotations

from nat_core.comparison.records import CellComparison, Estimate, RunOutcome, Verdict
from nat_core.comparison.statistics import mean_interval, seeds_to_settle, shows_spread
from nat_core.records import RunState
from nat_core.spec import ExperimentSpec


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return _points(estimate.mean)
    return f"{_points(estimate.mean)} [{_points(estimate.low)}, {_points(estimate.high)}]"


def _margin_words(margin: float) -> str:
    points = f"{100 * margin:g}"
    return f"{points} point" + ("" if points == "1" else "s")


def verdict_text(verdict: Verdict, differences: list[float], margin: float) -> str:
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
    if not shows_spread(differences):
        same = f"{len(differences)} paired seeds differ by the same {_points(differences[0])} points"
        return f"Undecided at a margin of {within}: {same}, which shows no spread to judge by; run more seeds."
    needed = seeds_to_settle(differences, margin)
    more = f"about {needed} seeds would settle it" if needed else "more seeds would not settle it at this spread"
    return f"Undecided at a margin of {within}: {shown}; {more}."


def answer(spec: ExperimentSpec, cells: list[CellComparison], best: int | None) -> tuple[str, str, str]:
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
        return "No answer yet.", "No budget has finished beside its baseline; curves show how far they are.", "mute"
    if all(cell.verdict in (Verdict.NO_CLAIM, Verdict.PENDING) for cell in rivals):
        closest = max((c for c in rivals if c.difference), key=lambda c: c.difference.mean if c.difference else -1.0)
        detail = f"{closest.label}: {closest.verdict_text} {_saved_words(closest)}"
        return "One seed makes no claim.", detail, "warn"
    if all(cell.verdict in (Verdict.INFERIOR, Verdict.NON_INFERIOR) for cell in rivals):  # those pass, and save nothing
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


def warnings(outcomes: list[RunOutcome], cells: list[CellComparison]) -> list[str]:
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
