"""`natlab send`: a run in TensorBoard, Weights & Biases or MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from client.api import NatLab
from client.cli.shared import AsJson, connect, err, print_json, say
from client.errors import ClientError
from client.reported import EventType
from client.sinks import SINKS, RunInfo, open_sink
from client.sinks import send as send_events
from client.train import EventTail
from nat_core.events import AnyEvent
from nat_core.spec import RunSpec, load_document, parse_run_spec

_SENT: tuple[EventType, ...] = ("metrics", "evaluation", "state")
_Found = tuple[RunInfo, Iterable[AnyEvent], int]
"""A run, what it reported, and how many steps that is."""


def send(
    what: Annotated[
        str,
        typer.Argument(metavar="WHAT", help="A run's or an experiment's id, or a folder that `natlab train` wrote."),
    ],
    to: Annotated[str, typer.Option(help=f"One of {', '.join(SINKS)}.")],
    project: Annotated[str, typer.Option(help="What it belongs to there: project, experiment, folder.")] = "natlab",
    directory: Annotated[Path, typer.Option("--dir", help="Where tools that write files write them.")] = Path(
        "reports"
    ),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send metrics to TensorBoard, W&B or MLflow. Training never waits for it."""
    with connect() as lab:
        for run, events, steps in _found(what, lab, follow):
            sink = open_sink(to, directory=directory, project=project)
            sent = send_events(sink, run, _with_bar(events, run.id, steps))
            if as_json:
                print_json({"run_id": run.id, "to": to, "events": sent}, indent=None)
            else:
                say(f"{run.id} is in {to}: {sent} events.")


def _with_bar(events: Iterable[AnyEvent], name: str, steps: int) -> Iterator[AnyEvent]:
    """The same events; where somebody looks on, with a bar that follows their steps."""
    if not err.is_terminal:
        yield from events
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bars:
        task = bars.add_task(name, total=steps)
        for event in events:
            bars.update(task, completed=event.step)
            yield event


def _found(what: str, lab: NatLab, follow: bool) -> Iterator[_Found]:
    if Path(what).is_dir():
        yield _of_folder(Path(what))
        return
    ids = [run.id for run in lab.experiment(what).runs] if what.startswith("exp-") else [what]
    for run_id in ids:
        yield _of_server(run_id, lab, follow)


def _of_server(run_id: str, lab: NatLab, follow: bool) -> _Found:
    run = lab.run(run_id)
    experiment = lab.experiment(run.experiment_id)
    info = RunInfo(
        id=run.id,
        name=f"{experiment.name} · {run.label} · seed {run.seed}",
        group=experiment.name,
        tags=tuple(dict.fromkeys([*experiment.tags, *run.tags])),
        config=run.spec.model_dump(mode="json"),
    )
    return info, lab.events(run, _SENT, follow=follow), run.steps if follow else run.step


def _of_folder(folder: Path) -> _Found:
    if not (folder / "events.jsonl").exists():
        raise ClientError(f"{folder} holds no events.jsonl; name a folder that `natlab train --output` wrote, or an id")
    spec: RunSpec = parse_run_spec(load_document(folder / "spec.json"), f"spec of {folder}")
    name = folder.absolute().name
    info = RunInfo(id=name, name=f"{name} · {spec.budget.label}", config=spec.model_dump(mode="json"))
    return info, EventTail(folder / "events.jsonl").read(), spec.steps
