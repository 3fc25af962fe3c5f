"""The calls for what runs reported: metrics, events, logs, checkpoints. See `client.calls`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

from client import calls, frames
from client.errors import ClientError
from client.exchange import Exchange, Item, Pause, Request, Stream, ask
from client.paths import Experiment, Run, run_path
from nat_core.events import AnyEvent
from nat_core.records import CheckpointRecord, ExperimentRecord, MetricSeries, RunDetail, RunRecord

T = TypeVar("T")
Axis = Literal["step", "tokens_selected", "tokens_generated", "update_s", "wall_s"]
EventType = Literal["metrics", "sample", "evaluation", "checkpoint", "log", "state"]

_EVENTS_PAGE = 1000
_RUNS_A_REQUEST = 100
_KEYS_A_REQUEST = 50
_QUIET_POLLS = 2  # a run's last events may be stored a moment after its end


def metric_series(
    run_ids: Sequence[str],
    keys: Sequence[str],
    x: Axis = "step",
    since: int | None = None,
    max_points: int | None = None,
) -> Exchange[list[MetricSeries]]:
    """Values of metrics of several runs, as the server tells them: `metrics` makes a table of the same.

    Args:
        keys: names from `nat_core.events.METRICS`.
        x: `step`, the time so far `wall_s`, or a running total: `tokens_selected`, `tokens_generated`, `update_s`.
        since: leave out this step and everything before it.
        max_points: most points in one series.
    """
    params = {"run_ids": ",".join(run_ids), "keys": ",".join(keys), "x": x, "since": since, "max_points": max_points}
    return ask(list[MetricSeries], Request("GET", "/api/v1/metrics", params))


def metrics(
    of: Experiment | Run | Iterable[Experiment | Run],
    keys: Sequence[str] | None = None,
    x: Axis = "step",
    since: int | None = None,
    max_points: int | None = None,
    backend: frames.Library | None = None,
) -> Exchange[Any]:
    """Metrics as a DataFrame: a row for each run and step, a column for each metric.

    The other columns are `experiment_id`, `run_id`, `budget`, `seed` and the axis. Where runs and metrics have values
    at different steps, what is not there is null.

    Args:
        of: experiments or runs, as records or ids, one or several.
        keys: names from `nat_core.events.METRICS`, or of a named set of questions (`eval/math500/accuracy`); all that
            have values unless given.
        x, since, max_points: as in `metric_series`.
        backend: pandas or polars; the one that is installed unless given, pandas where both are.

    Raises:
        ClientError: when neither is installed, or `of` names neither experiment nor run.
    """
    library = frames.library(backend)  # before anything is asked
    things = [of] if isinstance(of, str | ExperimentRecord | RunRecord) else list(of)
    found, known = yield from _runs_of(things)
    asked = list(frames.keys_with((yield from _sets_of(found, known))) if keys is None else keys)
    series: list[MetricSeries] = []
    for some in _parts(found, _RUNS_A_REQUEST):
        for names in _parts(asked, _KEYS_A_REQUEST):
            series += yield from metric_series([run.id for run in some], names, x, since, max_points)
    return frames.frame(found, series, x, asked, library, only_told=keys is None)


def events(
    run: Run,
    type: EventType | Sequence[EventType] | None = None,
    after_seq: int = 0,
    follow: bool = False,
    every_s: float = 1.0,
) -> Stream[AnyEvent]:
    """A run's events in order: metrics, samples, evaluations, checkpoints, log lines and states.

    Args:
        type: only events of this type, or of these.
        after_seq: only later ones than the event with this `seq`.
        follow: wait for further ones until the run has ended.
        every_s: seconds between two looks for further ones.
    """
    path, quiet, ended = f"{run_path(run)}/events", 0, False
    patience_s = 60.0 if follow else 0.0
    while True:
        params = {"type": type, "after_seq": after_seq, "limit": _EVENTS_PAGE}
        found = yield from ask(list[AnyEvent], Request("GET", path, params, patience_s=patience_s))
        for event in found:
            yield Item(event)
            after_seq = event.seq
        if len(found) == _EVENTS_PAGE:
            continue
        if not follow or (ended and not found):
            return
        quiet = 0 if found else quiet + 1
        if quiet >= _QUIET_POLLS:
            now = yield from ask(RunRecord, Request("GET", run_path(run), patience_s=patience_s))
            ended = now.state.is_final
        if not ended:  # else what came between the two looks is fetched at once
            yield Pause(every_s)


def logs(run: Run) -> Exchange[str]:
    """The run's log lines, then the end of what its trainer printed."""
    response = yield Request("GET", f"{run_path(run)}/logs")
    return str(response.text)


def checkpoints(run: Run) -> Exchange[list[CheckpointRecord]]:
    """Whole checkpoints in the run's folder on the server, newest first."""
    return ask(list[CheckpointRecord], Request("GET", f"{run_path(run)}/checkpoints"))


def _runs_of(things: Sequence[Experiment | Run]) -> Exchange[tuple[list[RunRecord], list[ExperimentRecord]]]:
    """The runs that experiments and runs stand for, in order and each once; and the experiments met on the way."""
    found: dict[str, RunRecord] = {}
    met: list[ExperimentRecord] = []
    for thing in things:
        if isinstance(thing, str) and thing.startswith("exp-"):
            thing = yield from calls.experiment(thing)
        elif isinstance(thing, str) and thing.startswith("run-"):
            thing = yield from calls.run(thing)
        elif isinstance(thing, str):
            raise ClientError(f"{thing!r} is no id of an experiment (exp-…) or run (run-…); take one from `natlab ls`")
        if isinstance(thing, ExperimentRecord):
            met.append(thing)
        found.update({one.id: one for one in (thing.runs if isinstance(thing, ExperimentRecord) else [thing])})
    return list(found.values()), met


def _sets_of(runs: Sequence[RunRecord], known: Sequence[ExperimentRecord]) -> Exchange[list[str]]:
    """Names of the sets of questions that runs are asked besides their own: their experiments' specs have them."""
    specs = {one.id: one.spec.base for one in known}
    for one in runs:
        if one.experiment_id not in specs:
            specs[one.experiment_id] = (
                one.spec if isinstance(one, RunDetail) else (yield from calls.experiment(one.experiment_id)).spec.base
            )
    return list(dict.fromkeys(name for spec in specs.values() for name in spec.evaluation.sets))


def _parts(things: Sequence[T], size: int) -> list[Sequence[T]]:
    return [things[start : start + size] for start in range(0, len(things), size)]
