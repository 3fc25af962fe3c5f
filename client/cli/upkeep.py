"""Keep it running: workers, copies, disk space, and what is wrong with this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.address import default_home
from client.cli.shared import AsJson, complain, connect, err, mib, out, print_json, say
from client.doctor.finding import Role
from client.show import print_workers
from nat_core.records import ALIVE_S
from nat_core.version import __version__


def workers(
    require: Annotated[
        str | None, typer.Option(metavar="HOST", help="End with status 1 unless a worker of this host is alive.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List workers, and when each was last heard of."""
    with connect() as lab:
        found = lab.workers()
    if as_json:
        print_json(found)
    else:
        print_workers(out, found)
    alive = [worker for worker in found if worker.hostname == require and worker.alive]
    if require is not None and not alive:
        complain(f"no worker of host {require} was heard of in the last {ALIVE_S:g} s; see its log")
        raise typer.Exit(1)


def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; must not exist yet.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Copy the database while the server writes on. It is this machine's; run folders are plain files."""
    from client.backup import backup as copy

    with err.status("Copying the database …"):
        size = copy(default_home(), file)
    if as_json:
        print_json({"file": str(file), "size_bytes": size})
    else:
        say(f"{file} holds the database, {mib(size)}.")


def gc(
    archived_days: Annotated[
        float | None, typer.Option(min=0, help="Remove archived experiments that ended so many days ago, too.")
    ] = None,
    checkpoints_days: Annotated[
        float | None,
        typer.Option(min=0, help="Remove all checkpoints of runs that ended so many days ago, the weights with them."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give disk space back. Folders of deleted runs, and the database's free pages."""
    with connect() as lab, err.status("Looking for what nobody needs …"):
        swept = lab.gc(archived_days, dry_run, checkpoints_days)
    if as_json:
        print_json({**swept.model_dump(), "dry_run": dry_run})
        return
    went = "would go" if dry_run else "went"
    say(
        f"{len(swept.experiments)} archived experiments, {len(swept.folders)} folders of deleted runs and the "
        f"checkpoints of {len(swept.checkpoints)} runs {went}: {mib(swept.folder_bytes)} of folders, "
        f"{mib(swept.database_bytes)} of database."
    )


def doctor(
    role: Annotated[Role, typer.Option(help="What this machine is to do: all of it (up), or one part.")] = Role.UP,
    as_json: AsJson = False,
) -> None:
    """Check this machine for what natlab needs. Says what to do about what is missing; changes nothing."""
    from client.doctor import examine, show

    with err.status("Looking at this machine …"):
        findings = examine(role)
    if as_json:
        print_json({"role": role, "ok": not any(one.is_bad for one in findings), "findings": findings})
    else:
        show(findings, role, out)
    raise typer.Exit(1 if any(one.is_bad for one in findings) else 0)


def print_version(asked: bool) -> None:
    """What `natlab --version` does."""
    if asked:
        version()
        raise typer.Exit


def version(as_json: AsJson = False) -> None:
    """Print natlab's version."""
    if as_json:
        print_json({"version": __version__})
    else:
        say(__version__)
