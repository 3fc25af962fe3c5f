"""What needs no server: plan a step, train one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.shared import AsJson, Assignments, SpecFile, document, err, is_experiment, out
from nat_core.cost import num_ranks
from nat_core.errors import SpecError
from nat_core.spec import BudgetSpec, RunSpec, parse_experiment_spec, parse_run_spec


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
    measure: Annotated[
        bool, typer.Option("--measure", help="Also seconds, from rates measured here for some seconds first.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what each budget's step will cost. Tokens, operations, memory, before anything runs; no server is asked."""
    from client import plan as planning

    run, budgets = _run_and_budgets(spec, assignments)
    assumed = planning.assumptions(run, prompt_tokens, completion_tokens, memory_gib)
    rates = None
    if measure:
        with err.status("measuring this machine"):
            rates = planning.measured_rates(run)
    found, devices = planning.plans(run, budgets, assumed, rates), num_ranks(run)
    if as_json:
        out.print_json(data=planning.as_json(found, assumed, devices))
    else:
        planning.show(found, assumed, out, devices)


def train(
    spec: SpecFile,
    output: Annotated[Path, typer.Option(help="Folder for events, log and checkpoints; must not hold a run yet.")],
    assignments: Assignments = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print how it ended as JSON; progress to stderr.")] = False,
) -> None:
    """Train one run on this machine. It comes from a file; no server is asked."""
    from client.train import train as train_here
    from nat_core.preflight import check_run

    found = document(spec, assignments)
    if is_experiment(found):
        raise SpecError(
            f"{spec} is an experiment, but `natlab train` trains one run; launch it with `natlab launch {spec}`, or "
            "give a file with what stands under its `base` and one `budget`"
        )
    run = parse_run_spec(found, f"spec {spec}")
    check_run(run)
    raise typer.Exit(train_here(run, output, out, err, as_json))


def _run_and_budgets(path: Path, assignments: list[str] | None) -> tuple[RunSpec, list[BudgetSpec]]:
    """Of a run's file its spec and its budget, of an experiment's its base and all of them."""
    found = document(path, assignments)
    if is_experiment(found):
        experiment = parse_experiment_spec(found, f"spec {path}")
        return experiment.base, list(experiment.budgets)
    run = parse_run_spec(found, f"spec {path}")
    return run, [run.budget]
