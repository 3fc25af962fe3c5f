"""The `natlab` command.

Errors are one sentence on stderr. Exit status: 0 fine, 1 something failed, 2 bad input, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError
from rich.console import Console
from typer.exceptions import TyperException

from client.api import ApiError, NatLab, ServerUnreachable, default_token, default_url
from client.export import export
from client.processes import StopRequested, python_module, stop_signals
from client.show import (
    ALIVE_WITHIN_S,
    ExperimentProgress,
    print_comparison,
    print_experiments,
    print_workers,
    silent_s,
)
from nat_core.errors import NatlabError, SpecError, spec_error_from_validation
from nat_core.records import ExperimentRecord, RunRecord
from nat_core.spec import (
    BudgetSpec,
    ExperimentSpec,
    RunSpec,
    demo_experiment,
    load_document,
    parse_experiment_spec,
    parse_run_spec,
    set_field,
)
from nat_core.version import __version__

app = typer.Typer(
    help="How few generated tokens can I train on? GRPO on unbiased token budgets: launch, watch, compare.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
# A log or a pipe has no width to fit: tables are as wide as they want there.
out = Console(width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True)

SpecFile = Annotated[Path, typer.Argument(help="YAML or JSON file.", show_default=False)]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the file, e.g. steps=10.")
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


# --- the whole stack ------------------------------------------------------------------------------


@app.command()
def up() -> None:
    """Start Valkey, server and worker on this machine, and serve until Ctrl-C."""
    from client.up import Settings, Stack

    with stop_signals() as hurried, Stack(Settings.from_environment(), say, hurried) as stack:
        say(f"natlab is at {link(stack.settings.url, stack.settings.home)} (Ctrl-C stops it)")
        stack.serve()


@app.command()
def demo(
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each run.")] = 60,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0",
    leave: Annotated[bool, typer.Option("--exit", help="End after the table instead of serving on.")] = False,
) -> None:
    """Start everything, train the built-in demo under four token budgets, and compare them."""
    from client.up import Settings, Stack

    spec = _demo_spec(steps, seeds)
    with stop_signals() as hurried, Stack(Settings.from_environment(), say, hurried) as stack:
        with stack.connect() as lab:
            experiment = lab.launch(spec)
            page = link(experiment_page(lab, experiment.id), stack.settings.home)
            say(f"Training under {len(spec.budgets)} token budgets; live at {page}")
            experiment = follow(lab, experiment.id, check=stack.check)
            print_comparison(out, lab.comparison(experiment.id))
        say(f"\nThe whole comparison, with its curves: {page}")
        if leave:
            raise typer.Exit(0 if experiment.state == "succeeded" else 1)
        say("Serving until Ctrl-C.")
        stack.serve()


@app.command("link")
def print_link() -> None:
    """Print the address that lets a browser in; it holds the token, so keep it to yourself."""
    say(link(default_url()))


@app.command()
def server() -> None:
    """Run the server alone, in this process."""
    _become("server")


@app.command()
def worker() -> None:
    """Run a worker alone, in this process."""
    _become("worker")


# --- without a server -----------------------------------------------------------------------------


@app.command()
def plan(
    spec: SpecFile,
    assignments: Assignments = None,
    prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a prompt.", show_default=False)] = None,
    completion_tokens: Annotated[
        int | None, typer.Option(min=1, help="Mean tokens of a completion.", show_default=False)
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option(min=0.1, help="Memory to fit into; this machine's if not given.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what an update step will cost under each budget, before anything runs."""
    from client import plan as planning

    run, budgets = _run_and_budgets(spec, assignments)
    assumed = planning.assumptions(run, prompt_tokens, completion_tokens, memory_gib)
    found = planning.plans(run, budgets, assumed)
    if as_json:
        out.print_json(data=planning.as_json(found, assumed))
    else:
        planning.show(found, assumed, out)


@app.command()
def train(
    spec: SpecFile,
    output: Annotated[Path, typer.Option(help="Folder for events, log and checkpoints; must not hold a run yet.")],
    assignments: Assignments = None,
) -> None:
    """Train one run from a file, on this machine and without a server."""
    from client.train import train as train_here
    from nat_core.preflight import check_run

    run = parse_run_spec(_document(spec, assignments), f"spec {spec}")
    check_run(run)
    raise typer.Exit(train_here(run, output, out, err))


# --- through the API ------------------------------------------------------------------------------


@app.command()
def launch(
    file: SpecFile,
    assignments: Assignments = None,
    priority: Annotated[
        int, typer.Option(min=-1000, max=1000, help="Runs with a higher one start first, whatever was launched before.")
    ] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until all have ended, then compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """Launch an experiment from a file on a running server."""
    spec: ExperimentSpec = parse_experiment_spec(_document(file, assignments), f"experiment {file}")
    with NatLab() as lab:
        experiment = lab.launch(spec, priority)
        if as_json:
            print_json(lab.wait(experiment.id) if wait else experiment)
            return
        say(f"Launched {experiment.id} with {len(experiment.runs)} runs: {experiment_page(lab, experiment.id)}")
        if wait:
            experiment = follow(lab, experiment.id)
            print_comparison(out, lab.comparison(experiment.id))
            raise typer.Exit(0 if experiment.state == "succeeded" else 1)


@app.command("ls")
def list_experiments(
    archived: Annotated[bool, typer.Option("--archived", help="Those put away instead of the current ones.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most experiments shown.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List experiments and their runs, newest first."""
    with NatLab() as lab:
        experiments = lab.experiments(archived=archived, limit=limit)
    if as_json:
        print_json(experiments)
    elif experiments:
        print_experiments(out, experiments)
    else:
        say("No experiments yet; launch one with `natlab launch FILE`.")


@app.command()
def stop(run_id: RunId) -> None:
    """Stop a run for good: it saves a checkpoint first."""
    with NatLab() as lab:
        _say_state(lab.stop(run_id))


@app.command()
def pause(run_id: RunId) -> None:
    """Pause a run: it saves a checkpoint and frees its worker."""
    with NatLab() as lab:
        _say_state(lab.pause(run_id))


@app.command()
def resume(run_id: RunId) -> None:
    """Let a paused run go on from its checkpoint."""
    with NatLab() as lab:
        _say_state(lab.resume(run_id))


@app.command()
def kill(run_id: RunId) -> None:
    """End a run within ten seconds, without a checkpoint."""
    with NatLab() as lab:
        _say_state(lab.kill(run_id))


@app.command()
def compare(
    experiment_id: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="The experiment's id.")],
    as_json: AsJson = False,
) -> None:
    """Compare an experiment's budgets: accuracy, savings and the verdict."""
    with NatLab() as lab:
        comparison = lab.comparison(experiment_id)
    if as_json:
        print_json(comparison)
    else:
        print_comparison(out, comparison)


app.command()(export)


@app.command()
def workers(
    require: Annotated[
        str | None, typer.Option(metavar="HOST", help="End with status 1 unless a worker of this host is alive.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List workers, and when each was last heard of."""
    with NatLab() as lab:
        found = lab.workers()
    if as_json:
        print_json(found)
    else:
        print_workers(out, found)
    alive = [worker for worker in found if worker.hostname == require and silent_s(worker) < ALIVE_WITHIN_S]
    if require is not None and not alive:
        complain(f"no worker of host {require} was heard of in the last {ALIVE_WITHIN_S:g} s; see its log")
        raise typer.Exit(1)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; must not exist yet.", show_default=False)],
) -> None:
    """Copy the database of this machine's server, which may go on writing. Run folders are plain files."""
    from client.backup import backup as copy

    home = Path(os.environ.get("NATLAB_HOME") or ".natlab").expanduser()
    say(f"{file} holds the database, {_mib(copy(home, file))}.")


@app.command()
def gc(
    archived_days: Annotated[
        float | None, typer.Option(min=0, help="Remove archived experiments that ended so many days ago, too.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Give disk space back: folders of deleted runs, and the database's free pages."""
    with NatLab() as lab:
        swept = lab.gc(archived_days, dry_run)
    went = "would go" if dry_run else "went"
    say(
        f"{len(swept['experiments'])} archived experiments and {len(swept['folders'])} folders of deleted runs {went}: "
        f"{_mib(swept['folder_bytes'])} of folders, {_mib(swept['database_bytes'])} of database."
    )


@app.command()
def version() -> None:
    """Print natlab's version."""
    say(__version__)


# --- shared ---------------------------------------------------------------------------------------


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def say(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)


def print_json(value: BaseModel | list[Any]) -> None:
    """JSON on stdout, as the API gave it."""
    print(TypeAdapter(type(value)).dump_json(value, indent=2).decode())


def experiment_page(lab: NatLab, experiment_id: str) -> str:
    return f"{lab.url}/experiments/{experiment_id}"


def link(page: str, home: Path | None = None) -> str:
    """An address for the browser: with the token where one is known, which the server swaps for a cookie."""
    token = default_token(page, home)
    return page if token is None else f"{page}?{urlencode({'token': token})}"


def _say_state(run: RunRecord) -> None:
    say(f"{run.id} is {run.state}.")


def follow(lab: NatLab, experiment_id: str, check: Any = lambda: None) -> ExperimentRecord:
    """Show progress until every run has ended; `check` may raise on the way."""
    with ExperimentProgress(out) as progress:

        def on_progress(experiment: ExperimentRecord) -> None:
            check()
            progress(experiment)

        try:
            return lab.wait(experiment_id, on_progress)
        except ServerUnreachable:
            check()  # names the part that died rather than its symptom
            raise


def _run_and_budgets(path: Path, assignments: list[str] | None) -> tuple[RunSpec, list[BudgetSpec]]:
    """Of a run's file its spec and its budget, of an experiment's its base and all of them."""
    document = _document(path, assignments)
    if "base" in document or "budgets" in document:
        experiment = parse_experiment_spec(document, f"spec {path}")
        return experiment.base, list(experiment.budgets)
    run = parse_run_spec(document, f"spec {path}")
    return run, [run.budget]


def _document(file: Path, assignments: list[str] | None) -> dict[str, Any]:
    document = load_document(file)
    for assignment in assignments or []:
        set_field(document, assignment)
    return document


def _demo_spec(steps: int, seeds: str) -> ExperimentSpec:
    parts = [part.strip() for part in seeds.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise SpecError(f"--seeds is {seeds!r}, but it takes whole numbers separated by commas, such as 0,1,2")
    try:
        return demo_experiment(steps=steps, seeds=tuple(int(part) for part in parts))
    except ValidationError as error:
        raise spec_error_from_validation(error, "demo") from None


def _become(module: str) -> None:
    """Turn this process into `python -m module`, so that signals reach it directly."""
    argv = python_module(module)
    os.execv(argv[0], argv)


def main() -> None:
    """Entry point: runs a command and turns what it raises into a sentence and an exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line; returns its exit status."""
    try:
        return app(arguments or ["--help"], prog_name="natlab", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except StopRequested as request:
        return 128 + request.signum
    except TyperException as error:
        complain(error.format_message())
        return 2
    except NatlabError as error:
        complain(error.message)
        for line in getattr(error, "lines", []):
            complain(f"  {line}")
        return _status_of(error)
    except Exception as error:
        complain(f"natlab hit a bug ({type(error).__name__}: {error}); set NATLAB_DEBUG=1 to see where")
        if os.environ.get("NATLAB_DEBUG"):
            raise
        return 1


def complain(line: str) -> None:
    err.print(line, markup=False, highlight=False, soft_wrap=True)


def _status_of(error: NatlabError) -> int:
    """2 when the input was wrong, 1 when something else broke: a server away, a part that died."""
    if isinstance(error, ApiError):
        return 2 if error.problem.status < 500 else 1
    return 1 if error.code in ("server_unreachable", "stack") else 2
