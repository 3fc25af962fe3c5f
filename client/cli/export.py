"""`natlab export`: an experiment's report as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.shared import AsJson, ExperimentId, connect, err, mib, print_json, say
from client.errors import ClientError


def export(
    experiment_id: ExperimentId,
    output: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write, e.g. report.html.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write an experiment's report as one HTML file. Answer, tables and figures; it needs no network."""
    if output.exists() and not force:
        raise ClientError(f"{output} is there already; choose another name, or write over it with --force")
    with connect() as lab, err.status("Fetching the report …"):
        report = lab.report(experiment_id)
    try:
        output.write_text(report, encoding="utf-8")
    except OSError as error:
        raise ClientError(f"{output} cannot be written ({error.strerror}); choose another place") from None
    size = len(report.encode())
    if as_json:
        print_json({"file": str(output), "size_bytes": size})
    else:
        say(f"Wrote {output} ({mib(size)}).")
