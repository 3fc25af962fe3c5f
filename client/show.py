"""What the command line shows of experiments: tables, and progress that also reads well in a log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from nat_core.comparison import CellComparison, Comparison, Estimate, Verdict
from nat_core.records import ExperimentRecord, RunRecord, WorkerRecord

PLAIN_LINE_EVERY_S = 15.0
NONE = "–"
_WIDE = 100  # from here on tables need not be tight
_OF_A_SET = re.compile(r"eval/([^/]+)/accuracy")
_STATE_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "stopped": "yellow",
    "running": "cyan",
    "paused": "yellow",
    "queued": "dim",
}
_VERDICT_STYLES = {Verdict.NON_INFERIOR: "green", Verdict.INFERIOR: "red", Verdict.INCONCLUSIVE: "yellow"}


def percent(value: float | None, digits: int = 1) -> str:
    return NONE if value is None else f"{100 * value:.{digits}f}%"


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=_STATE_STYLES.get(state, ""))


# --- progress -------------------------------------------------------------------------------------


class ExperimentProgress:
    """A bar per run on a terminal; elsewhere a line per run whenever its state changes, and now and then.

    Call it with every new `ExperimentRecord`; use as a context manager.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._bars = run_progress(console) if console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> ExperimentProgress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, experiment: ExperimentRecord) -> None:
        several_seeds = len(experiment.spec.seeds) > 1
        names = [f"{run.label} · seed {run.seed}" if several_seeds else run.label for run in experiment.runs]
        width = max(map(len, names), default=0)
        for run, name in zip(experiment.runs, names, strict=True):
            if self._bars is None:
                self._line(run, f"{name:<{width}}")
            else:
                self._bar(self._bars, run, name)

    def _bar(self, bars: Progress, run: RunRecord, name: str) -> None:
        if run.id not in self._tasks:
            self._tasks[run.id] = bars.add_task(name, total=run.steps, start=False, values="", state=run.state)
        task = self._tasks[run.id]
        if run.started_at is not None and bars.tasks[bars.task_ids.index(task)].start_time is None:
            bars.start_task(task)
        bars.update(task, completed=run.step, values=latest_values(run.latest), state=state_text(run.state))
        if run.state.is_final:
            bars.stop_task(task)

    def _line(self, run: RunRecord, name: str) -> None:
        state, told_at = self._told.get(run.id, ("", 0.0))
        waited = self._clock() - told_at >= PLAIN_LINE_EVERY_S
        if run.state == state and not (waited and run.state == "running"):
            return
        self._told[run.id] = (run.state, self._clock())
        why = f"  {run.message or run.reason}" if run.state == "failed" else ""
        self.console.print(
            f"{name:<20} {run.state:<9} {run.step}/{run.steps}  {latest_values(run.latest)}{why}".rstrip(),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def run_progress(console: Console) -> Progress:
    """Bars with steps, elapsed time and the text fields `values` and `state`."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[values]}", markup=False),
        TextColumn("{task.fields[state]}"),
        console=console,
    )


def latest_values(latest: dict[str, float | None]) -> str:
    """Reward and accuracy so far, as they are known."""
    parts = []
    reward, accuracy = latest.get("reward"), latest.get("eval/accuracy")
    if reward is not None:
        parts.append(f"reward {reward:.3f}")
    if accuracy is not None:
        parts.append(f"accuracy {percent(accuracy)}")
    return "  ".join(parts)


def set_accuracies(latest: Mapping[str, float | None]) -> dict[str, float | None]:
    """Accuracy on each named set of questions, by the set's name."""
    return {match[1]: value for key, value in latest.items() if (match := _OF_A_SET.fullmatch(key))}


# --- tables ---------------------------------------------------------------------------------------


def print_comparison(console: Console, comparison: Comparison) -> None:
    """The table of budgets, then the verdict in words."""
    table = Table(box=None, pad_edge=False, padding=(0, 1 if console.width < _WIDE else 2, 0, 0), header_style="bold")
    table.add_column("Budget")
    for heading in ("Accuracy", "Against baseline", "Trained on", "Tokens saved", "Time saved", "Memory saved"):
        table.add_column(heading, justify="right", min_width=max(map(len, heading.split())))
    table.add_column("Verdict", no_wrap=True)
    for cell in comparison.cells:
        table.add_row(*_row(cell))
    console.print(table)
    console.print()
    console.print(Text(comparison.headline, style="bold"), soft_wrap=True)
    for line in (comparison.detail, *comparison.warnings):
        if line:
            console.print(Text(line), soft_wrap=True)


def print_sets(console: Console, experiment: ExperimentRecord) -> None:
    """Accuracy of each budget on the experiment's named sets of questions; nothing where it has none.

    The verdict is about the runs' own questions, so these stand beside it and are not part of it.
    """
    names = list(experiment.spec.base.evaluation.sets)
    if not names:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Accuracy on", no_wrap=True)
    for name in names:
        table.add_column(Text(name), justify="right")
    ended = [run for run in experiment.runs if run.state == "succeeded" and not run.archived]
    for cell, budget in enumerate(experiment.spec.budgets):
        found = [set_accuracies(run.latest) for run in ended if run.cell == cell]
        table.add_row(Text(budget.label), *(_mean_share([one.get(name) for one in found]) for name in names))
    console.print()
    console.print(table)
    several = len(experiment.spec.seeds) > 1
    mean = ", mean over the seeds" if several else ""
    console.print(Text(f"At the end of the runs that finished{mean}. The verdict is about the runs' own questions."))


def _mean_share(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return percent(fmean(known)) if known else NONE


def _row(cell: CellComparison) -> Sequence[str | Text]:
    points = None if cell.difference is None else f"{100 * cell.difference.mean:+.1f} points"
    return (
        Text(cell.label + (" (biased)" if cell.biased else "")),
        _share(cell.accuracy),
        points or NONE,
        _share(cell.fraction, digits=0),
        _share(cell.savings.get("tokens_selected"), digits=0),
        _share(cell.savings.get("forward_backward_s"), digits=0),
        _share(cell.savings.get("peak_memory_gib"), digits=0),
        Text(cell.verdict, style=_VERDICT_STYLES.get(cell.verdict, "")),
    )


def _share(estimate: Estimate | None, digits: int = 1) -> str:
    return NONE if estimate is None else percent(estimate.mean, digits)


def print_experiments(console: Console, experiments: Sequence[ExperimentRecord]) -> None:
    """A row for each experiment, and below it one for each of its runs."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Experiment, runs")
    for heading in ("Budget", "Seed", "State", "Steps", "Accuracy"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("Budget", "State") else "right")
    for experiment in experiments:
        table.add_row(Text.assemble(experiment.id, "  ", (experiment.name, "bold")))
        for run in experiment.runs:
            accuracy = percent(run.latest.get("eval/accuracy"))
            told = (Text(run.label), str(run.seed), state_text(run.state), f"{run.step}/{run.steps}", accuracy)
            table.add_row(f"  {run.id}", *told)
    console.print(table)


def print_workers(console: Console, workers: Sequence[WorkerRecord]) -> None:
    """One row per worker: what it has, what it does, and since when it was silent."""
    if not workers:
        console.print("No worker has registered yet; start one with `natlab worker`.", markup=False, highlight=False)
        return
    table = Table("Worker", "Host", "GPUs", "Labels", "Run", "Heard of", box=None, pad_edge=False, header_style="bold")
    for worker in workers:
        gpus = worker.hardware.get("gpus") or []
        names = ", ".join(str(gpu.get("name", "GPU")) for gpu in gpus) or "none"
        told = (worker.id, worker.hostname, names, ", ".join(worker.labels) or NONE, worker.run_id or NONE)
        table.add_row(*map(Text, told), f"{silent_s(worker):.0f} s ago")
    console.print(table)


def silent_s(worker: WorkerRecord) -> float:
    """Seconds since the server heard of a worker; 0 where its clock is ahead of this one."""
    return max(0.0, (datetime.now(UTC) - worker.seen_at).total_seconds())
