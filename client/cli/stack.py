"""Start natlab: all of it, or one part."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer
from pydantic import ValidationError

from client.address import default_url
from client.cli.shared import AsJson, complain, experiment_page, follow, link, out, print_json, say
from client.processes import python_module, stop_signals
from client.show import print_comparison
from nat_core.errors import SpecError, spec_error_from_validation
from nat_core.spec import ExperimentSpec, demo_experiment


def up(as_json: AsJson = False) -> None:
    """Start all of natlab on this machine. Valkey, server and worker serve until Ctrl-C.

    Its port is NATLAB_PORT (8300 unless set), its data folder NATLAB_HOME (.natlab unless set).
    """
    from client.up import Settings, Stack

    with stop_signals() as hurried, Stack(Settings.from_environment(), _teller(as_json), hurried) as stack:
        address = link(stack.settings.url, stack.settings.home)
        if as_json:
            print_json({"url": stack.settings.url, "link": address, "home": str(stack.settings.home)}, indent=None)
        else:
            say(f"natlab is at {address} (Ctrl-C stops it)")
        stack.serve()


def demo(
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each run.")] = 60,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0",
    leave: Annotated[bool, typer.Option("--exit", help="End after the table instead of serving on.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON, and end.")] = False,
) -> None:
    """Train the built-in demo and compare. Starts everything first; four token budgets, a table, the pages."""
    from client.up import Settings, Stack

    spec = _demo_spec(steps, seeds)
    tell = _teller(as_json)
    with stop_signals() as hurried, Stack(Settings.from_environment(), tell, hurried) as stack:
        with stack.connect() as lab:
            experiment = lab.launch(spec)
            page = link(experiment_page(lab, experiment.id), stack.settings.home)
            tell(f"Training under {len(spec.budgets)} token budgets; live at {page}")
            if as_json:
                experiment = lab.wait(experiment, lambda _: stack.check(), patience_s=0)
                print_json(lab.compare(experiment))
            else:
                experiment = follow(lab, experiment.id, check=stack.check, patience_s=0)
                print_comparison(out, lab.compare(experiment))
        tell(f"\nThe whole comparison, with its curves: {page}")
        if leave or as_json:
            raise typer.Exit(0 if experiment.state == "succeeded" else 1)
        say("Serving until Ctrl-C.")
        stack.serve()


def print_link(as_json: AsJson = False) -> None:
    """Print the address that lets a browser in. It holds the token, so keep it to yourself."""
    address = link(default_url())
    if as_json:
        print_json({"url": default_url(), "link": address})
    else:
        say(address)


def server() -> None:
    """Run the server alone, in this process."""
    _become("server")


def worker() -> None:
    """Run a worker alone, in this process."""
    _become("worker")


def _teller(as_json: bool) -> Callable[[str], None]:
    """Where sentences go: to stderr when stdout is for JSON alone."""
    return complain if as_json else say


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
