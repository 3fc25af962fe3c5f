"""`natlab export`: an experiment's report as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.api import ClientError, NatLab


def export(
    experiment_id: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="The experiment's id.")],
    output: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write, e.g. report.html.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write an experiment's answer, tables and figures as one HTML file that needs no network."""
    if output.exists() and not force:
        raise ClientError(f"{output} is there already; choose another name, or write over it with --force")
    with NatLab() as lab:
        report = lab.report(experiment_id)
    try:
        output.write_text(report, encoding="utf-8")
    except OSError as error:
        raise ClientError(f"{output} cannot be written ({error.strerror}); choose another place") from None
    typer.echo(f"Wrote {output} ({len(report.encode()) / 1e6:.1f} MB).")
