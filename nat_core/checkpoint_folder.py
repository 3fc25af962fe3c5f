"""Folders of checkpoints that are whole or not there: written beside, hashed, then renamed into place. No torch here.

A checkpoint is a folder `step-00000060` with `manifest.json` in it: sizes and sha256 of all its files, written last. A
folder whose name begins with a dot is being written, or is on its way out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from nat_core.errors import CheckpointError, DiskError

_PREFIX = "step-"
_PARTIAL = ".partial-"
_REPLACED = ".replaced-"
_PRUNED = ".pruned-"
_ALWAYS = ("optimizer.safetensors", "state.json")


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk."""

    path: Path
    size_bytes: int


def places(folder: Path, step: int) -> tuple[Path, Path]:
    """Where a checkpoint is in the end, and where it is written."""
    return folder / f"{_PREFIX}{step:08d}", folder / f"{_PARTIAL}{step:08d}"


@contextlib.contextmanager
def cleared_on_error(partial: Path, final: Path) -> Iterator[None]:
    """Take away what was written when the rest cannot be, and say so as a `DiskError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk its space is what the rest of the run needs
        reason = " ".join(str(error).split())
        raise DiskError(f"checkpoint {final} cannot be written ({reason}); free some disk space") from None


def put_in_place(partial: Path, final: Path, keep: int) -> None:
    """Give a sealed checkpoint its name, and delete all but the `keep` newest.

    One of the same step steps aside first, so that one of the two is whole at every moment (see `bring_back`); and
    what is deleted loses its name first, so that nothing half-deleted is ever taken for a checkpoint.
    """
    folder = final.parent
    if final.exists():
        _step_aside(_REPLACED, final)
    try:
        partial.rename(final)
    except OSError:
        bring_back(folder)
        raise
    fsync(folder)
    for old in list_checkpoints(folder)[:-keep]:
        with contextlib.suppress(OSError):  # it goes with the next one
            _step_aside(_PRUNED, old)
    for prefix in (_PARTIAL, _REPLACED, _PRUNED):  # and what a killed trainer left of the like
        for left in folder.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)


def bring_back(folder: Path) -> None:
    """Undo a replacement that was cut off after the old checkpoint had stepped aside and before the new one came."""
    for aside in sorted(folder.glob(f"{_REPLACED}*")):
        final = folder / aside.name.removeprefix(_REPLACED)
        if not final.exists():
            aside.rename(final)
            fsync(folder)


def _step_aside(prefix: str, path: Path) -> None:
    aside = path.with_name(f"{prefix}{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def list_checkpoints(folder: Path, damaged: bool = False) -> list[Path]:
    """Complete checkpoints, oldest first; with `damaged` those without a manifest, too."""
    found = sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())
    return [path for path in found if damaged or (path / "manifest.json").is_file()]


def verify_checkpoint(path: Path) -> None:
    """Raise a `CheckpointError` unless every file is there with the size and hash the manifest tells."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        wanted = {name: (entry["size"], entry["sha256"]) for name, entry in manifest.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise CheckpointError(f"checkpoint {path} has no readable manifest ({error}); use an earlier one") from None
    for name in sorted({*wanted, *_ALWAYS}):
        file = path / name
        if not file.is_file() or (file.stat().st_size, _sha256(file)) != wanted.get(name):
            raise CheckpointError(f"checkpoint {path} is damaged: {name} is not what was written; use an earlier one")


def seal(folder: Path, state: dict[str, Any]) -> int:
    """Write `state.json`, fsync every file and folder, write the manifest last, and return the total size in bytes."""
    (folder / "state.json").write_text(json.dumps(state))
    manifest: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        fsync(path)
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            manifest[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    fsync(folder / "manifest.json")
    fsync(folder)
    return sum(entry["size"] for entry in manifest.values())


def fsync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
