"""`natlab watch`: an experiment's runs in a table that lives, each with the curve of its reward and accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from client.api import NatLab
from client.errors import ClientError
from client.show import NONE, percent, set_accuracies, state_text
from nat_core.records import ExperimentRecord, MetricSeries, RunRecord

CURVES = ("reward", "eval/accuracy")
_WIDTH = 20
_NARROWEST = 5  # of fewer characters a curve tells nothing
_BARS = "▁▂▃▄▅▆▇█"
_MOST_POINTS = 240
_MOST_CURVES = 40  # a terminal shows no more runs at once, and the server need not be asked for them

Curves = Mapping[tuple[str, str], Sequence[float | None]]


class LiveTable:
    """Draws the experiment it is called with. Use as a context manager."""

    def __init__(self, console: Console, lab: NatLab) -> None:
        self._lab = lab
        self._curves: Curves = {}
        self._live = Live(console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def __call__(self, experiment: ExperimentRecord) -> None:
        begun = [run.id for run in experiment.runs if run.started_at is not None][:_MOST_CURVES]
        with suppress(ClientError):  # the curves may be a little old; `wait` knows when to give up
            if begun:
                self._curves = curves_of(self._lab.metric_series(begun, CURVES, max_points=_MOST_POINTS))
        self._live.update(table(experiment, self._curves), refresh=True)


def curves_of(series: Sequence[MetricSeries]) -> Curves:
    return {(one.run_id, one.key): one.y for one in series}


def table(experiment: ExperimentRecord, curves: Curves) -> Group:
    """The experiment's name and state, and a row for each run. Where there is little room its curves give way."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    sets, several = list(experiment.spec.base.evaluation.sets), len(experiment.spec.seeds) > 1
    for heading in ("Run", "Budget", *(["Seed"] if several else []), "State", "Steps", "Left"):
        rows.add_column(heading, no_wrap=True, justify="right" if heading in ("Seed", "Steps", "Left") else "left")
    for heading in ("Reward", "Accuracy"):
        rows.add_column(heading, no_wrap=True, justify="right")
        rows.add_column("")
    for name in sets:
        rows.add_column(Text(name), no_wrap=True, justify="right")
    for run in experiment.runs:
        accuracies = (percent(set_accuracies(run.latest).get(name)) for name in sets)
        rows.add_row(*_about(run, several), *_values(run, curves), *accuracies)
    ended = sum(run.state.is_final for run in experiment.runs)
    title = Text.assemble(
        (experiment.name, "bold"), f"  {experiment.id}  ", state_text(experiment.state), f"  {ended}/"
    )
    title.append(f"{len(experiment.runs)} runs ended")
    failed = [Text(f"{run.id}: {run.message or run.reason}", "red") for run in experiment.runs if run.state == "failed"]
    return Group(title, "", rows, *failed)


def _about(run: RunRecord, several_seeds: bool) -> Sequence[str | Text]:
    seed = [str(run.seed)] if several_seeds else []
    steps = f"{run.step}/{run.steps}"
    return run.id, Text(run.label), *seed, state_text(run.state), steps, duration(run.eta_s)


def _values(run: RunRecord, curves: Curves) -> Sequence[str | Curve]:
    """The newest reward and accuracy, each with its curve."""
    reward = run.latest.get("reward")
    return (
        NONE if reward is None else f"{reward:.3f}",
        Curve(curves.get((run.id, "reward"), ())),
        percent(run.latest.get("eval/accuracy")),
        Curve(curves.get((run.id, "eval/accuracy"), ())),
    )


class Curve:
    """A curve as wide as there is room for."""

    def __init__(self, values: Sequence[float | None]) -> None:
        self._values = values

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, len(sparkline(self._values)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = sparkline(self._values)
        shown = sparkline(self._values, min(_WIDTH, options.max_width))
        yield Text(shown if len(shown) >= min(_NARROWEST, len(whole)) else "")


def sparkline(values: Sequence[float | None], width: int = _WIDTH) -> str:
    """A curve in a line of text: from its lowest value to its highest, at most `width` characters.

    Where there are more values than characters, each stands for the mean of its share of them; a flat curve is low.
    """
    known = [value for value in values if value is not None]
    if not known or width < 1:
        return ""
    count = min(width, len(known))
    edges = [position * len(known) // count for position in range(count + 1)]
    means = [sum(known[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def duration(seconds: float | None) -> str:
    """`42 s`, `3:07`, `1:02:03`."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
