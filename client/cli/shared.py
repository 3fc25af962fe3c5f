"""What the commands share: where they print, options that many take, and files read as specs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from pydantic import BaseModel, TypeAdapter

from client.api import NatLab, ServerUnreachable, default_token
from client.console import HarmlessConsole
from client.show import ExperimentProgress
from nat_core.records import ExperimentRecord
from nat_core.spec import load_document, set_field

# A log or a pipe has no width to fit: tables are as wide as they want there.
out = HarmlessConsole(width=None if sys.stdout.isatty() else 160)
err = HarmlessConsole(stderr=True)

RETRIES = 2  # somebody waits at the terminal: better a sentence soon


def connect() -> NatLab:
    """The server that the environment names."""
    return NatLab(retries=RETRIES)


def say(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)


def complain(line: str) -> None:
    err.print(line, markup=False, highlight=False, soft_wrap=True)


def print_json(value: BaseModel | list[Any] | dict[str, Any], indent: int | None = 2) -> None:
    """JSON on stdout, as the API gave it."""
    print(TypeAdapter(type(value)).dump_json(value, indent=indent).decode(), flush=True)


def mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


# --- addresses ------------------------------------------------------------------------------------


def experiment_page(lab: NatLab, experiment_id: str) -> str:
    return f"{lab.url}/experiments/{experiment_id}"


def link(page: str, home: Path | None = None) -> str:
    """An address for the browser: with the token where one is known, which the server swaps for a cookie."""
    token = default_token(page, home)
    return page if token is None else f"{page}?{urlencode({'token': token})}"


# --- progress -------------------------------------------------------------------------------------


def follow(
    lab: NatLab, experiment_id: str, check: Callable[[], None] = lambda: None, patience_s: float = 60.0
) -> ExperimentRecord:
    """Show progress until every run has ended; `check` may raise on the way."""
    with ExperimentProgress(out) as progress:

        def on_progress(experiment: ExperimentRecord) -> None:
            check()
            progress(experiment)

        try:
            return lab.wait(experiment_id, on_progress, patience_s=patience_s)
        except ServerUnreachable:
            check()  # names the part that died rather than its symptom
            raise


# --- files ----------------------------------------------------------------------------------------


def document(file: Path, assignments: list[str] | None) -> dict[str, Any]:
    """A spec file with its fields changed as the command line says."""
    found = load_document(file)
    for assignment in assignments or []:
        set_field(found, assignment)
    return found


def is_experiment(found: dict[str, Any]) -> bool:
    """Whether a file's content compares budgets; else it is one run."""
    return "base" in found or "budgets" in found


# --- what people type -----------------------------------------------------------------------------


def _complete_experiments(incomplete: str) -> list[tuple[str, str]]:
    return [(found.id, found.name) for found in _recent() if found.id.startswith(incomplete)]


def _complete_runs(incomplete: str) -> list[tuple[str, str]]:
    return [
        (run.id, f"{found.name}, {run.label}, {run.state}")
        for found in _recent()
        for run in found.runs
        if run.id.startswith(incomplete)
    ]


def _complete_both(incomplete: str) -> list[tuple[str, str]]:
    return [*_complete_experiments(incomplete), *_complete_runs(incomplete)]


def _recent() -> list[ExperimentRecord]:
    """The newest experiments, for the shell's completion; none when the server is away: a Tab must never complain."""
    try:
        with NatLab(timeout_s=1.0, retries=0) as lab:
            return lab.experiments(limit=20)
    except Exception:
        return []


SpecFile = Annotated[Path, typer.Argument(metavar="FILE", help="YAML or JSON file.", show_default=False)]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the file, e.g. steps=10.")
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", autocompletion=_complete_runs)]
RunOrExperimentId = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, or an experiment's.", autocompletion=_complete_both)
]
ExperimentId = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="The experiment's id.", autocompletion=_complete_experiments)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
