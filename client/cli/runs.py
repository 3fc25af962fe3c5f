"""What can be asked of one run: end, wait, go on, and what it said."""

from __future__ import annotations

from typing import Annotated

import typer

from client.cli.shared import AsJson, RunId, RunOrExperimentId, connect, print_json, say
from client.log_lines import LOGGED, log_line
from nat_core.events import AnyEvent
from nat_core.records import RunRecord


def stop(what: RunOrExperimentId, as_json: AsJson = False) -> None:
    """Stop a run, or an experiment, for good. Checkpoints are saved first."""
    with connect() as lab:
        if not what.startswith("exp-"):
            _show(lab.stop(what), as_json)
            return
        experiment = lab.stop_experiment(what)
    if as_json:
        print_json(experiment)
        return
    for run in experiment.runs:
        say(f"{run.id} is {run.state}.")


def pause(run_id: RunId, as_json: AsJson = False) -> None:
    """Pause a run: it saves a checkpoint and frees its worker."""
    with connect() as lab:
        _show(lab.pause(run_id), as_json)


def resume(run_id: RunId, as_json: AsJson = False) -> None:
    """Let a paused run go on from its checkpoint."""
    with connect() as lab:
        _show(lab.resume(run_id), as_json)


def kill(run_id: RunId, as_json: AsJson = False) -> None:
    """End a run within ten seconds, without a checkpoint."""
    with connect() as lab:
        _show(lab.kill(run_id), as_json)


def logs(
    run_id: RunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=1, help="Only the last so many lines.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print its events, a line of JSON each.")] = False,
) -> None:
    """Print what a run logged. Then the end of what its trainer printed; with -f, what happens, as it happens."""
    with connect() as lab:
        if not follow and not as_json:
            _print_text(lab.logs(run_id), lines)
            return
        backlog = [] if follow and lines is None else list(lab.events(run_id, LOGGED))[-(lines or 0) :]
        for event in backlog:
            _print_event(event, as_json)
        if follow:
            last = backlog[-1].seq if backlog else 0
            for event in lab.events(run_id, LOGGED, after_seq=last, follow=True):
                _print_event(event, as_json)


def _print_text(text: str, lines: int | None) -> None:
    kept = text.splitlines()[-(lines or 0) :]
    for line in kept or ["It has logged nothing yet."]:
        say(line)


def _print_event(event: AnyEvent, as_json: bool) -> None:
    if as_json:
        print_json(event, indent=None)
    else:
        say(log_line(event))


def _show(run: RunRecord, as_json: bool) -> None:
    if as_json:
        print_json(run)
    else:
        say(f"{run.id} is {run.state}.")
