"""Every call of natlab's API, once: what is asked and what comes back.

`NatLab` and `AsyncNatLab` have each of these as a method of the same name, without the trouble of sending.
Wherever an id is asked for, the record will do: `lab.wait(lab.launch(spec))`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from client import frames
from client.errors import ClientError, WaitedTooLong
from client.exchange import Exchange, Item, Pause, Request, Stream, ask
from nat_core.comparison import Comparison
from nat_core.events import AnyEvent
from nat_core.records import (
    Action,
    CheckpointRecord,
    ExperimentRecord,
    MetricSeries,
    Page,
    RunDetail,
    RunRecord,
    RunState,
    WorkerRecord,
)
from nat_core.spec import ExperimentSpec

Experiment = str | ExperimentRecord
Run = str | RunRecord
Axis = Literal["step", "tokens_selected", "tokens_generated", "update_s", "wall_s"]
EventType = Literal["metrics", "sample", "evaluation", "checkpoint", "log", "state"]

_PAGE = 100
_EVENTS_PAGE = 1000
_RUNS_A_REQUEST = 100
_QUIET_POLLS = 2  # a run's last events may be stored a moment after its end

# --- experiments ----------------------------------------------------------------------------------


def launch(
    spec: ExperimentSpec | Mapping[str, Any], priority: int = 0, key: str | None = None
) -> Exchange[ExperimentRecord]:
    """Store an experiment and queue its runs.

    Args:
        priority: of those that wait, runs with a higher one start first.
        key: the server launches once for one key, however often it is asked; a fresh one unless given. With a key of
            your own a script that is started again gets the experiment that it launched before.

    Raises:
        ApiError: code `bad_spec`, `data` or `model` when an input is wrong, `broker_unavailable` when
            Redis cannot be reached.
    """
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    request = Request("POST", "/api/v1/experiments", {"priority": priority or None}, json=_body(spec), headers=headers)
    return ask(ExperimentRecord, request)


def plan(spec: ExperimentSpec | Mapping[str, Any]) -> Exchange[dict[str, Any]]:
    """What an experiment would start and what each budget's step is expected to cost; nothing is stored.

    See `ExperimentPlan` in the API's document.
    """
    return ask(dict[str, Any], Request("POST", "/api/v1/plan", json=_body(spec)))


def experiment(experiment: Experiment) -> Exchange[ExperimentRecord]:
    """One experiment with its runs, as they are now."""
    return ask(ExperimentRecord, Request("GET", _experiment_path(experiment)))


def experiments(archived: bool = False, limit: int | None = None) -> Exchange[list[ExperimentRecord]]:
    """Experiments, newest first; all of them unless `limit` says how many."""
    return _pages(Page[ExperimentRecord], "/api/v1/experiments", {"archived": archived}, limit)


def edit_experiment(
    experiment: Experiment, name: str | None = None, tags: Sequence[str] | None = None, notes: str | None = None
) -> Exchange[ExperimentRecord]:
    """Change name, tags or notes; what is not given stays."""
    changes = _given(name=name, tags=tags, notes=notes)
    return ask(ExperimentRecord, Request("PATCH", _experiment_path(experiment), json=changes))


def archive_experiment(experiment: Experiment) -> Exchange[ExperimentRecord]:
    """Take it out of the usual listing."""
    return ask(ExperimentRecord, Request("POST", f"{_experiment_path(experiment)}/archive"))


def unarchive_experiment(experiment: Experiment) -> Exchange[ExperimentRecord]:
    """Bring it back into the usual listing."""
    return ask(ExperimentRecord, Request("POST", f"{_experiment_path(experiment)}/unarchive"))


def stop_experiment(experiment: Experiment) -> Exchange[ExperimentRecord]:
    """Ask all its runs to end: those that wait at once, the others with a checkpoint."""
    return ask(ExperimentRecord, Request("POST", f"{_experiment_path(experiment)}/stop"))


def delete_experiment(experiment: Experiment) -> Exchange[None]:
    """Delete a finished experiment with its runs and their folders."""
    yield Request("DELETE", _experiment_path(experiment))


def compare(experiment: Experiment) -> Exchange[Comparison]:
    """What the experiment's budgets cost and saved, against its baseline, and what can be claimed."""
    return ask(Comparison, Request("GET", f"{_experiment_path(experiment)}/comparison"))


def report(experiment: Experiment) -> Exchange[str]:
    """The experiment's answer, tables and figures as one self-contained HTML file."""
    response = yield Request("GET", f"{_experiment_path(experiment)}/report")
    return str(response.text)


def wait(
    experiment: Experiment,
    on_progress: Callable[[ExperimentRecord], None] | None = None,
    every_s: float = 0.5,
    timeout_s: float | None = None,
    patience_s: float = 60.0,
) -> Exchange[ExperimentRecord]:
    """Poll until every run of an experiment has ended, and return it.

    Args:
        on_progress: called with the experiment after every poll, the last one included.
        every_s: seconds between polls.
        timeout_s: give up after so many seconds; never unless given. The runs go on.
        patience_s: seconds for which the server may be away meanwhile.

    Raises:
        WaitedTooLong: after `timeout_s`.
    """
    started = time.monotonic()
    while True:
        now = yield from ask(ExperimentRecord, Request("GET", _experiment_path(experiment), patience_s=patience_s))
        if on_progress is not None:
            on_progress(now)
        if all(run.state.is_final for run in now.runs):
            return now
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            raise WaitedTooLong(f"{now.id} has not ended within {timeout_s:g} s; wait longer, or stop it")
        yield Pause(every_s)


# --- runs -----------------------------------------------------------------------------------------


def run(run: Run) -> Exchange[RunDetail]:
    """One run with its spec and its attempts."""
    return ask(RunDetail, Request("GET", _run_path(run)))


def runs(
    experiment: Experiment | None = None, state: RunState | str | None = None, limit: int | None = None
) -> Exchange[list[RunRecord]]:
    """Runs, newest first: of one experiment, or in one state; all of them unless `limit` says how many."""
    params = {"experiment_id": None if experiment is None else _id(experiment), "state": state}
    return _pages(Page[RunRecord], "/api/v1/runs", params, limit)


def edit_run(
    run: Run, tags: Sequence[str] | None = None, notes: str | None = None, priority: int | None = None
) -> Exchange[RunRecord]:
    """Change tags, notes or priority; what is not given stays."""
    changes = _given(tags=tags, notes=notes, priority=priority)
    return ask(RunRecord, Request("PATCH", _run_path(run), json=changes))


def archive_run(run: Run) -> Exchange[RunRecord]:
    """Leave it out of its experiment's comparison."""
    return ask(RunRecord, Request("POST", f"{_run_path(run)}/archive"))


def unarchive_run(run: Run) -> Exchange[RunRecord]:
    """Let it count in its experiment's comparison again."""
    return ask(RunRecord, Request("POST", f"{_run_path(run)}/unarchive"))


def delete_run(run: Run) -> Exchange[None]:
    """Delete a finished run and its folder."""
    yield Request("DELETE", _run_path(run))


def stop(run: Run) -> Exchange[RunRecord]:
    """Ask a run to save a checkpoint and end; a run that waits is stopped at once.

    Raises:
        ApiError: code `illegal_transition` when it has ended already; so do the others where the run's
            `actions` do not list them.
    """
    return _act(run, "stop")


def pause(run: Run) -> Exchange[RunRecord]:
    """Ask a run to save a checkpoint and free its worker until it is resumed."""
    return _act(run, "pause")


def resume(run: Run) -> Exchange[RunRecord]:
    """Queue a paused run again; it goes on from its checkpoint exactly."""
    return _act(run, "resume")


def kill(run: Run) -> Exchange[RunRecord]:
    """End a run within ten seconds and without a checkpoint."""
    return _act(run, "kill")


# --- what runs reported ---------------------------------------------------------------------------


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
        keys: names from `nat_core.events.METRICS`; all that have values unless given.
        x, since, max_points: as in `metric_series`.
        backend: pandas or polars; the one that is installed unless given, pandas where both are.

    Raises:
        ClientError: when neither is installed, or `of` names neither experiment nor run.
    """
    library = frames.library(backend)  # before anything is asked
    found = yield from _runs_of([of] if isinstance(of, str | ExperimentRecord | RunRecord) else list(of))
    asked = list(frames.ALL_KEYS if keys is None else keys)
    series: list[MetricSeries] = []
    for start in range(0, len(found), _RUNS_A_REQUEST):
        ids = [run.id for run in found[start : start + _RUNS_A_REQUEST]]
        series += yield from metric_series(ids, asked, x, since, max_points)
    return frames.frame(found, series, x, keys, library)


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
    path, quiet = f"{_run_path(run)}/events", 0
    while True:
        params = {"type": type, "after_seq": after_seq, "limit": _EVENTS_PAGE}
        found = yield from ask(list[AnyEvent], Request("GET", path, params, patience_s=60.0 if follow else 0.0))
        for event in found:
            yield Item(event)
            after_seq = event.seq
        if len(found) == _EVENTS_PAGE:
            continue
        if not follow:
            return
        quiet = 0 if found else quiet + 1
        if quiet >= _QUIET_POLLS and (yield from ask(RunRecord, Request("GET", _run_path(run)))).state.is_final:
            return
        yield Pause(every_s)


def logs(run: Run) -> Exchange[str]:
    """The run's log lines, then the end of what its trainer printed."""
    response = yield Request("GET", f"{_run_path(run)}/logs")
    return str(response.text)


def checkpoints(run: Run) -> Exchange[list[CheckpointRecord]]:
    """Whole checkpoints in the run's folder on the server, newest first."""
    return ask(list[CheckpointRecord], Request("GET", f"{_run_path(run)}/checkpoints"))


# --- the rest -------------------------------------------------------------------------------------


def workers() -> Exchange[list[WorkerRecord]]:
    """Workers, the one heard of last first."""
    return ask(list[WorkerRecord], Request("GET", "/api/v1/workers"))


def gc(
    archived_days: float | None = None, dry_run: bool = False, checkpoints_days: float | None = None
) -> Exchange[dict[str, Any]]:
    """Have the server give disk space back; what went, or would go (see `SweepReport` in the API's document)."""
    body = {"archived_days": archived_days, "checkpoints_days": checkpoints_days, "dry_run": dry_run}
    return ask(dict[str, Any], Request("POST", "/api/v1/gc", json=body, timeout_s=600.0))


def server_version() -> Exchange[str]:
    """The version of the server that answers."""
    health = yield from ask(dict[str, str], Request("GET", "/healthz", once=True))
    return health.get("version", "unknown")


def is_ready() -> Exchange[bool]:
    """Whether the server answers and can reach its database and Redis."""
    try:
        yield Request("GET", "/readyz", timeout_s=2.0, once=True)
    except ClientError:
        return False
    return True


# --- shared ---------------------------------------------------------------------------------------


def _body(spec: ExperimentSpec | Mapping[str, Any]) -> dict[str, Any]:
    return spec.model_dump(mode="json") if isinstance(spec, ExperimentSpec) else dict(spec)


def _act(run: Run, action: Action) -> Exchange[RunRecord]:
    return ask(RunRecord, Request("POST", f"{_run_path(run)}/{action}"))


def _pages(page: Any, path: str, params: Mapping[str, Any], limit: int | None) -> Exchange[list[Any]]:
    """All items of a listing, cursor by cursor."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        asked = {**params, "limit": min(limit or _PAGE, _PAGE), "cursor": cursor}
        answer = yield from ask(page, Request("GET", path, asked))
        found += answer.items
        cursor = answer.next_cursor
        if cursor is None or (limit is not None and len(found) >= limit):
            return found[:limit]


def _runs_of(things: Sequence[Experiment | Run]) -> Exchange[list[RunRecord]]:
    """The runs that experiments and runs stand for, in order and each once."""
    found: dict[str, RunRecord] = {}
    for thing in things:
        if isinstance(thing, RunRecord):
            some = [thing]
        elif isinstance(thing, ExperimentRecord):
            some = thing.runs
        elif thing.startswith("exp-"):
            some = (yield from experiment(thing)).runs
        elif thing.startswith("run-"):
            some = [(yield from run(thing))]
        else:
            raise ClientError(f"{thing!r} is no id of an experiment (exp-…) or run (run-…); take one from `natlab ls`")
        found.update({one.id: one for one in some})
    return list(found.values())


def _id(thing: Experiment | Run) -> str:
    return thing if isinstance(thing, str) else thing.id


def _experiment_path(experiment: Experiment) -> str:
    return f"/api/v1/experiments/{_segment(_id(experiment))}"


def _run_path(run: Run) -> str:
    return f"/api/v1/runs/{_segment(_id(run))}"


def _segment(name: str) -> str:
    """An id as one segment of a path, whatever someone typed."""
    return quote(name, safe="") or "-"


def _given(**params: Any) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None}
