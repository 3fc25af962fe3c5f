"""Which checkpoints a folder holds, what makes one whole, and what is known of it. Nothing here needs torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from nat_core.errors import CheckpointError
from nat_core.spec import ModelSpec

PREFIX = "step-"
_MANIFEST = "manifest.json"
_ALWAYS = ("optimizer.safetensors", "state.json")


def list_checkpoints(folder: Path, damaged: bool = False) -> list[Path]:
    """Complete checkpoints, oldest first; with `damaged` those without a manifest, too."""
    found = sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())
    return [path for path in found if damaged or (path / _MANIFEST).is_file()]


def verify_checkpoint(path: Path) -> None:
    """Raise a `CheckpointError` unless every file is there with the size and hash the manifest tells."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        wanted = {name: (entry["size"], entry["sha256"]) for name, entry in manifest.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise CheckpointError(f"checkpoint {path} has no readable manifest ({error}); use an earlier one") from None
    for name in sorted({*wanted, *_ALWAYS}):
        file = path / name
        if not file.is_file() or (file.stat().st_size, _sha256(file)) != wanted.get(name):
            raise CheckpointError(f"checkpoint {path} is damaged: {name} is not what was written; use an earlier one")


def seal(folder: Path, state: dict[str, Any]) -> int:
    """Write `state.json`, fsync every file, write the manifest last, and return the total size in bytes."""
    (folder / "state.json").write_text(json.dumps(state))
    manifest: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            fsync(file)
            name = file.relative_to(folder).as_posix()
            manifest[name] = {"size": file.stat().st_size, "sha256": _sha256(file)}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    fsync(folder / _MANIFEST)
    fsync(folder)
    return sum(entry["size"] for entry in manifest.values())


def model_of(path: Path) -> ModelSpec:
    """The model section of the spec that a checkpoint was written under.

    Raises:
        CheckpointError: an earlier natlab wrote it, which did not note that.
    """
    section = json.loads((path / "state.json").read_text()).get("model")
    if section is None:
        raise CheckpointError(
            f"checkpoint {path} does not say what model it is of; its model folder can be used as it is"
        )
    return ModelSpec.model_validate(section)


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
