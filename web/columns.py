"""What the tables of an experiment can show: of its budgets, means over seeds; of its runs, their newest values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from nat_core.comparison import CellComparison, Estimate, Verdict, mean_interval
from nat_core.events import Direction, MetricInfo, interval_keys
from nat_core.records import RunRecord
from web.badges import state_badge, verdict_badge
from web.figures.chart import metric_value
from web.formatting import change, clock, count, interval, number, percent, plus_minus, points, significant
from web.metrics import Metrics, set_accuracies
from web.table import Cell, Column
from web.views import run_seconds

_VERDICT_ORDER = list(Verdict)
_MOST_SETS_SHOWN = 3
_EVEN = 0.02  # an interval whose halves differ by less than this share of it counts as even


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
    """A mean as `shown` writes it, with half its interval as `half` does, or with as many decimals as the mean.

    One that does not lie in the middle of its interval, as that of a single run's answers does not, gets its ends.
    """

    def cell(item: BudgetItem) -> Cell:
        estimate = read(item.cell)
        if estimate is None:
            return Cell("—")
        text, small = shown(estimate.mean), ""
        if estimate.low is not None and estimate.high is not None:
            write = half or partial(number, digits=len(text.partition(".")[2]))
            below, above = estimate.mean - estimate.low, estimate.high - estimate.mean
            even = abs(above - below) <= _EVEN * (above + below)
            small = f"±{write((above + below) / 2)}" if even else f"[{write(estimate.low)}, {write(estimate.high)}]"
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
    """Mean over seeds of the runs' newest value, as the interval over seeds has it; of one run its own interval."""

    def cell(item: BudgetItem) -> Cell:
        known = [value for run in item.runs if (value := run.latest.get(key)) is not None]
        if not known:
            return Cell("—")
        if len(known) == 1:
            (run,) = (run for run in item.runs if run.latest.get(key) is not None)
            return Cell(metric_value(info, known[0]), _own_interval(key, run), value=known[0])
        estimate = mean_interval(known)
        half = "" if estimate.high is None else f"±{metric_value(info, estimate.high - estimate.mean).split(' ')[0]}"
        return Cell(metric_value(info, estimate.mean), half, value=estimate.mean)

    return cell


def _metric_latest(key: str, info: MetricInfo) -> Callable[[RunRecord], Cell]:
    def cell(run: RunRecord) -> Cell:
        value = run.latest.get(key)
        return Cell(metric_value(info, value), _own_interval(key, run), value=value)

    return cell


def _own_interval(key: str, run: RunRecord) -> str:
    """The 95% interval that a run's own value has, in per cent: of an accuracy Wilson's, for these questions."""
    ends = interval_keys(key)
    low, high = (run.latest.get(end) for end in ends) if ends else (None, None)
    return "" if low is None or high is None else f"[{number(100 * low)}, {number(100 * high)}]"


_H, _L = Direction.HIGHER, Direction.LOWER

_BUDGET_COLUMNS: tuple[Column[BudgetItem], ...] = (
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
)

_RUN_HEAD: tuple[Column[RunRecord], ...] = (
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
)
_RUN_TAIL: tuple[Column[RunRecord], ...] = (
    Column("worker", "Worker", lambda run: Cell(run.worker_id or "—", value=run.worker_id), left=True, chosen=False),
    Column("attempt", "Attempt", lambda run: Cell(str(run.attempt), value=run.attempt), chosen=False),
)
_RUN_CHOSEN = ("eval/accuracy", "reward", "timing_s/forward_backward", "perf/peak_memory_gib")


def budget_columns(metrics: Metrics) -> tuple[Column[BudgetItem], ...]:
    """What can be shown of budgets; the accuracies of named sets stand beside the answer unless there are many."""
    shown = _few_sets(metrics)
    means = {
        key: Column(key, info.label, _metric_mean(key, info), info.description, info.direction, chosen=key in shown)
        for key, info in metrics.items()
    }
    place = [column.key for column in _BUDGET_COLUMNS].index("difference") + 1
    early = tuple(means.pop(key) for key in shown)
    return (*_BUDGET_COLUMNS[:place], *early, *_BUDGET_COLUMNS[place:], *means.values())


def run_columns(metrics: Metrics) -> tuple[Column[RunRecord], ...]:
    """What can be shown of runs."""
    chosen = (*_RUN_CHOSEN, *_few_sets(metrics))
    values = (
        Column(key, info.label, _metric_latest(key, info), info.description, info.direction, chosen=key in chosen)
        for key, info in metrics.items()
    )
    return (*_RUN_HEAD, *values, *_RUN_TAIL)


def _few_sets(metrics: Metrics) -> list[str]:
    found = set_accuracies(metrics)
    return found if len(found) <= _MOST_SETS_SHOWN else []
