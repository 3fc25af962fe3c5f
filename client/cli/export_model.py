"""`natlab export-model`: a trained model as a plain folder; no server is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from client.address import default_home
from client.cli.shared import AsJson, complain, err, mib, print_json, say
from client.errors import ClientError


def export_model(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run's folder, a checkpoint's, or the id of a run of this machine.",
            show_default=False,
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write; must not be there yet.")],
    step: Annotated[
        int | None, typer.Option(min=0, help="Of this step's checkpoint; the newest if not given.", show_default=False)
    ] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Leave LoRA adapters what they are, for peft, instead of adding them.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="Of the weights written: float32 or bfloat16.")] = "float32",
    as_json: AsJson = False,
) -> None:
    """Write a trained model as a plain Hugging Face folder. transformers and vLLM load it; the checkpoint stays."""
    if dtype not in ("float32", "bfloat16"):
        raise ClientError(f"--dtype is {dtype}, but it is float32 or bfloat16; give one of them")
    command = [sys.executable, "-m", "nat_core.export", str(_folder_of(run)), str(folder), "--dtype", dtype]
    command += ["--step", str(step)] if step is not None else []
    command += ["--adapter"] if adapter else []
    with err.status("Exporting …"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _told(done)
    if as_json:
        print_json(found)
        return
    for note in found["notes"]:
        complain(note)
    whose = "adapters" if found["kind"] == "adapter" else "model"
    say(f"Wrote the {whose} of step {found['step']} to {found['folder']} ({mib(found['size_bytes'])}).")


def _folder_of(run: str) -> Path:
    """The folder named, or that of a run which this machine's worker trained."""
    known = default_home() / "runs" / run
    return known if not Path(run).exists() and "/" not in run and known.is_dir() else Path(run)


def _told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if "No module named" in why:
            raise ClientError(f"exporting needs the trainer's packages ({why}); pip install 'natlab[trainer]'")
        raise ClientError(why.removeprefix("natlab: "))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
