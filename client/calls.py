"""Every call of natlab's API, once: what is asked and what comes back. Those for what runs reported are in `reported`.

`NatLab` and `AsyncNatLab` have each of these as a method of the same name, without the trouble of sending.
Wherever an id is asked for, the record will do: `lab.wait(lab.launch(spec))`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from client.errors import ClientError, WaitedTooLong
from client.exchange import Exchange, Pause, Request, ask
from client.paths import Experiment, Run, experiment_path, id_of, run_path
from nat_core.comparison import Comparison
from nat_core.records import (
    Action,
    ExperimentPlan,
    ExperimentRecord,
    Page,
    RunDetail,
    RunRecord,
    RunState,
    SweepReport,
    WorkerRecord,
)
from nat_core.spec import ExperimentSpec

_PAGE = 100

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
        ClientError: the key is none.
        ApiError: code `bad_spec`, `data` or `model` when an input is wrong, `broker_unavailable` when
            Redis cannot be reached.
    """
    if key is not None and not (key.isascii() and key.isprintable() and 0 < len(key.strip()) <= 200):
        raise ClientError(
            f"key is {key[:200]!r}, but it is sent in a header; use 1 to 200 letters, digits and the like"
        )
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    request = Request("POST", "/api/v1/experiments", {"priority": priority or None}, json=_body(spec), headers=headers)
    return ask(ExperimentRecord, request)


def plan(spec: ExperimentSpec | Mapping[str, Any]) -> Exchange[ExperimentPlan]:
    """What an experiment would start and what each budget's step is expected to cost; nothing is stored."""
    return ask(ExperimentPlan, Request("POST", "/api/v1/plan", json=_body(spec)))


def experiment(experiment: Experiment) -> Exchange[ExperimentRecord]:
    """One experiment with its runs, as they are now."""
    return ask(ExperimentRecord, Request("GET", experiment_path(experiment)))


def experiments(archived: bool = False, limit: int | None = None) -> Exchange[list[ExperimentRecord]]:
    """Experiments, newest first; all of them unless `limit` says how many."""
    return _pages(Page[ExperimentRecord], "/api/v1/experiments", {"archived": archived}, limit)


def edit_experiment(
    experiment: Experiment, name: str | None = None, tags: Sequence[str] | None = None, notes: str | None = None
) -> Exchange[ExperimentRecord]:
    """Change name, tags or notes; what is not given stays."""
    changes = _given(name=name, tags=tags, notes=notes)
    return ask(ExperimentRecord, Request("PATCH", experiment_path(experiment), json=changes))


def archive_experiment(experiment: Experiment) -> Exchange[ExperimentRecord]:
    """Take it out of the usual listing."""
    return ask(ExperimentRecord, Request("POST", f"{experiment_path(experiment)}/archive"))


def unarchive_experiment(experiment: Experiment) -> Exchange[ExperimentRecord]:
    """Bring it back into the usual listing."""
    return ask(ExperimentRecord, Request("POST", f"{experiment_path(experiment)}/unarchive"))


def stop_experiment(experiment: Experiment) -> Exchange[ExperimentRecord]:
    """Ask all its runs to end: those that wait at once, the others with a checkpoint."""
    return ask(ExperimentRecord, Request("POST", f"{experiment_path(experiment)}/stop"))


def delete_experiment(experiment: Experiment) -> Exchange[None]:
    """Delete a finished experiment with its runs and their folders."""
    yield Request("DELETE", experiment_path(experiment))


def compare(experiment: Experiment) -> Exchange[Comparison]:
    """What the experiment's budgets cost and saved, against its baseline, and what can be claimed."""
    return ask(Comparison, Request("GET", f"{experiment_path(experiment)}/comparison"))


def report(experiment: Experiment) -> Exchange[str]:
    """The experiment's answer, tables and figures as one self-contained HTML file."""
    response = yield Request("GET", f"{experiment_path(experiment)}/report")
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
        now = yield from ask(ExperimentRecord, Request("GET", experiment_path(experiment), patience_s=patience_s))
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
    return ask(RunDetail, Request("GET", run_path(run)))


def runs(
    experiment: Experiment | None = None, state: RunState | str | None = None, limit: int | None = None
) -> Exchange[list[RunRecord]]:
    """Runs, newest first: of one experiment, or in one state; all of them unless `limit` says how many."""
    params = {"experiment_id": None if experiment is None else id_of(experiment), "state": state}
    return _pages(Page[RunRecord], "/api/v1/runs", params, limit)


def edit_run(
    run: Run, tags: Sequence[str] | None = None, notes: str | None = None, priority: int | None = None
) -> Exchange[RunRecord]:
    """Change tags, notes or priority; what is not given stays."""
    changes = _given(tags=tags, notes=notes, priority=priority)
    return ask(RunRecord, Request("PATCH", run_path(run), json=changes))


def archive_run(run: Run) -> Exchange[RunRecord]:
    """Leave it out of its experiment's comparison."""
    return ask(RunRecord, Request("POST", f"{run_path(run)}/archive"))


def unarchive_run(run: Run) -> Exchange[RunRecord]:
    """Let it count in its experiment's comparison again."""
    return ask(RunRecord, Request("POST", f"{run_path(run)}/unarchive"))


def delete_run(run: Run) -> Exchange[None]:
    """Delete a finished run and its folder."""
    yield Request("DELETE", run_path(run))


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


# --- the rest -------------------------------------------------------------------------------------


def workers() -> Exchange[list[WorkerRecord]]:
    """Workers, the one heard of last first."""
    return ask(list[WorkerRecord], Request("GET", "/api/v1/workers"))


def gc(
    archived_days: float | None = None, dry_run: bool = False, checkpoints_days: float | None = None
) -> Exchange[SweepReport]:
    """Have the server give disk space back; what went, or would go."""
    body = {"archived_days": archived_days, "checkpoints_days": checkpoints_days, "dry_run": dry_run}
    return ask(SweepReport, Request("POST", "/api/v1/gc", json=body, timeout_s=600.0))


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
    return ask(RunRecord, Request("POST", f"{run_path(run)}/{action}"))


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


def _given(**params: Any) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None}
