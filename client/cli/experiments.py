"""Launch experiments, list, watch and compare them."""

from __future__ import annotations

from typing import Annotated

import typer

from client.api import NatLab
from client.cli.shared import (
    AsJson,
    Assignments,
    ExperimentId,
    SpecFile,
    connect,
    document,
    err,
    experiment_page,
    follow,
    is_experiment,
    out,
    print_json,
    say,
)
from client.errors import ClientError
from client.show import print_comparison, print_experiments, print_sets
from client.watching import LiveTable
from nat_core.errors import SpecError
from nat_core.records import ExperimentRecord
from nat_core.spec import ExperimentSpec, RunSpec, parse_experiment_spec


def launch(
    file: SpecFile,
    assignments: Assignments = None,
    priority: Annotated[
        int, typer.Option(min=-1000, max=1000, help="Runs with a higher one start first, whatever was launched before.")
    ] = 0,
    key: Annotated[
        str | None,
        typer.Option(help="Launch once for one key, however often this is called.", metavar="KEY", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until all have ended, then compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """Launch an experiment from a file on a running server."""
    found = document(file, assignments)
    if not is_experiment(found) and found.keys() & RunSpec.model_fields.keys():
        raise SpecError(
            f"{file} is one run, but `natlab launch` takes an experiment; put it under `base` beside a `name` and "
            f"`budgets`, or train it here with `natlab train {file}`"
        )
    spec: ExperimentSpec = parse_experiment_spec(found, f"experiment {file}")
    with connect() as lab:
        with err.status("Launching …"):  # the server reads the data first
            experiment = lab.launch(spec, priority, key)
        if as_json:
            experiment = lab.wait(experiment) if wait else experiment
            print_json(experiment)
        else:
            say(f"Launched {experiment.id} with {len(experiment.runs)} runs: {experiment_page(lab, experiment.id)}")
        if wait and not as_json:
            experiment = follow(lab, experiment.id)
            print_comparison(out, lab.compare(experiment))
            print_sets(out, experiment)
        if wait:
            raise _exit(experiment)


def list_experiments(
    archived: Annotated[bool, typer.Option("--archived", help="Those put away instead of the current ones.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most experiments shown.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List experiments and their runs, newest first."""
    with connect() as lab:
        experiments = lab.experiments(archived=archived, limit=limit)
    if as_json:
        print_json(experiments)
    elif experiments:
        print_experiments(out, experiments)
    else:
        say("No experiments yet; launch one with `natlab launch FILE`.")


def watch(
    experiment_id: ExperimentId = "",
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.", metavar="SECONDS")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON whenever a run changes.")] = False,
) -> None:
    """Watch an experiment until it ends: a live table with curves. Without an id, the newest one."""
    with connect() as lab:
        experiment = lab.experiment(experiment_id) if experiment_id else _newest(lab)
        if as_json:
            ended = _print_changes(lab, experiment, every)
        elif out.is_terminal:
            with LiveTable(out, lab) as table:
                ended = lab.wait(experiment, table, every_s=every)
        else:
            say(f"{experiment.id} · {experiment.name}")
            ended = follow(lab, experiment.id)
    raise _exit(ended)


def compare(experiment_id: ExperimentId, as_json: AsJson = False) -> None:
    """Compare an experiment's budgets. Accuracy, savings and the verdict."""
    with connect() as lab:
        comparison = lab.compare(experiment_id)
        if as_json:
            print_json(comparison)
        else:
            print_comparison(out, comparison)
            print_sets(out, lab.experiment(experiment_id))


def _newest(lab: NatLab) -> ExperimentRecord:
    found = lab.experiments(limit=1)
    if not found:
        raise ClientError("there is no experiment to watch yet; launch one with `natlab launch FILE`")
    return found[0]


def _print_changes(lab: NatLab, experiment: ExperimentRecord, every_s: float) -> ExperimentRecord:
    """A run's record as a line of JSON, first for each run and then whenever its state, step or values change."""
    told: dict[str, object] = {}

    def tell(now: ExperimentRecord) -> None:
        for run in now.runs:
            news = (run.state, run.step, run.attempt, run.latest)
            if told.get(run.id) != news:
                told[run.id] = news
                print_json(run, indent=None)

    return lab.wait(experiment, tell, every_s=every_s)


def _exit(experiment: ExperimentRecord) -> typer.Exit:
    return typer.Exit(0 if experiment.state == "succeeded" else 1)
