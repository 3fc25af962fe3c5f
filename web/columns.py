"""What the tables of an experiment can show: of its budgets, means over seeds; of its runs, their newest values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nat_core.comparison import CellComparison, Estimate, Verdict, mean_interval
from nat_core.events import METRICS, Direction, MetricInfo
from nat_core.records import RunRecord
from web.badges import state_badge, verdict_badge
from web.figures.chart import metric_value
from web.formatting import change, clock, count, interval, number, percent, plus_minus, points, significant
from web.table import Cell, Column
from web.views import run_seconds

_VERDICT_ORDER = list(Verdict)


@dataclass(frozen=True)
class BudgetItem:
    """A budget with the runs of its seeds."""

    cell: CellComparison
    runs: tuple[RunRecord, ...]


def _estimated(
    read: Callable[[CellComparison], Estimate | None],
    shown: Callable[[float], str],
    half: Callable[[float], str] | None = None,
) -> Callable[[BudgetItem], Cell]:
    """A mean as `shown` writes it, with half its interval as `half` does, or with as many decimals as the mean."""

    def cell(item: BudgetItem) -> Cell:
        estimate = read(item.cell)
        if estimate is None:
            return Cell("—")
        text, small = shown(estimate.mean), ""
        if estimate.low is not None and estimate.high is not None:
            width = (estimate.high - estimate.low) / 2
            small = f"±{half(width) if half else number(width, len(text.partition('.')[2]))}"
        return Cell(text, small, value=estimate.mean)

    return cell


def _points(share: float) -> str:
    return number(100 * share)


def _verdict(item: BudgetItem) -> Cell:
    rank = _VERDICT_ORDER.index(item.cell.verdict)
    return Cell("", badge=verdict_badge(item.cell.verdict), title=item.cell.verdict_text, value=rank)


def _difference(item: BudgetItem) -> Cell:
    known = item.cell.difference
    return Cell(points(known.mean), interval(known, 100, 1, True), value=known.mean) if known else Cell("—")


def _saved(key: str) -> Callable[[BudgetItem], Cell]:
    def cell(item: BudgetItem) -> Cell:
        known = item.cell.savings.get(key)
        return Cell(change(known.mean), plus_minus(known, 100, 0), value=known.mean) if known else Cell("—")

    return cell


def _metric_mean(key: str, info: MetricInfo) -> Callable[[BudgetItem], Cell]:
    """Mean over seeds of the runs' newest value, as the interval over seeds has it."""

    def cell(item: BudgetItem) -> Cell:
        known = [value for run in item.runs if (value := run.latest.get(key)) is not None]
        if not known:
            return Cell("—")
        estimate = mean_interval(known)
        half = "" if estimate.high is None else f"±{metric_value(info, estimate.high - estimate.mean).split(' ')[0]}"
        return Cell(metric_value(info, estimate.mean), half, value=estimate.mean)

    return cell


def _metric_latest(key: str, info: MetricInfo) -> Callable[[RunRecord], Cell]:
    def cell(run: RunRecord) -> Cell:
        value = run.latest.get(key)
        return Cell(metric_value(info, value), value=value)

    return cell


_H, _L = Direction.HIGHER, Direction.LOWER

BUDGET_COLUMNS: tuple[Column[BudgetItem], ...] = (
    Column("verdict", "Verdict", _verdict, "What can be claimed about the loss of accuracy.", left=True),
    Column(
        "accuracy",
        "Accuracy %",
        _estimated(lambda cell: cell.accuracy, _points, _points),
        "Final accuracy of sampled answers.",
        _H,
    ),
    Column(
        "difference", "Difference, paired", _difference, "Accuracy minus the baseline's, in points, same seeds.", _H
    ),
    Column(
        "fraction",
        "Tokens trained on",
        _estimated(lambda cell: cell.fraction, percent, _points),
        "Of the tokens generated.",
        _L,
    ),
    Column(
        "forward_backward_s",
        "Forward+backward s/step",
        _estimated(lambda cell: cell.forward_backward_s, significant),
        "Seconds of the update's passes per step.",
        _L,
    ),
    Column(
        "step_s",
        "Step s",
        _estimated(lambda cell: cell.step_s, significant),
        "Seconds per step, rollout included.",
        _L,
    ),
    Column(
        "peak_memory_gib",
        "Peak memory GiB",
        _estimated(lambda cell: cell.peak_memory_gib, significant),
        "Highest memory of an update.",
        _L,
    ),
    Column(
        "seeds",
        "Seeds",
        lambda item: Cell(f"{item.cell.num_finished} of {item.cell.num_runs}", value=item.cell.num_finished),
        "Finished runs, of all.",
    ),
    Column(
        "tokens_selected",
        "Tokens trained on, whole run",
        _estimated(lambda cell: cell.tokens_selected, count, count),
        "",
        _L,
        chosen=False,
    ),
    Column(
        "tokens_trunk",
        "Trunk tokens, whole run",
        _estimated(lambda cell: cell.tokens_trunk, count, count),
        "",
        _L,
        chosen=False,
    ),
    *(
        Column(
            f"saved_{key}", f"{label} saved", _saved(key), "Against the baseline of the same seeds.", _H, False, False
        )
        for key, label in (
            ("tokens_selected", "Tokens"),
            ("tokens_trunk", "Trunk tokens"),
            ("forward_backward_s", "Forward+backward"),
            ("step_s", "Step time"),
            ("peak_memory_gib", "Memory"),
        )
    ),
    *(
        Column(key, info.label, _metric_mean(key, info), info.description, info.direction, chosen=False)
        for key, info in METRICS.items()
    ),
)

RUN_COLUMNS: tuple[Column[RunRecord], ...] = (
    Column("seed", "Seed", lambda run: Cell(str(run.seed), value=run.seed)),
    Column(
        "state",
        "State",
        lambda run: Cell(run.reason or "", badge=state_badge(run.state), title=run.message or "", value=str(run.state)),
        left=True,
    ),
    Column("step", "Step", lambda run: Cell(f"{run.step} of {run.steps}", value=run.step)),
    Column(
        "time",
        "Time",
        lambda run: Cell(clock(run_seconds(run)), value=run_seconds(run)),
        "Wall-clock time since the run started.",
    ),
    *(
        Column(
            key,
            info.label,
            _metric_latest(key, info),
            info.description,
            info.direction,
            chosen=key in ("eval/accuracy", "reward", "timing_s/forward_backward", "perf/peak_memory_gib"),
        )
        for key, info in METRICS.items()
    ),
    Column("worker", "Worker", lambda run: Cell(run.worker_id or "—", value=run.worker_id), left=True, chosen=False),
    Column("attempt", "Attempt", lambda run: Cell(str(run.attempt), value=run.attempt), chosen=False),
)
