"""Checkpoints in a run's folder: listed, and packed for download. Nothing outside that folder is ever read."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from nat_core.records import CheckpointRecord
from server.errors import NotFoundError

_NAME = re.compile(r"step-(\d{1,20})")
_BLOCK = 512  # what a tar archive is made of
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class _Entry:
    """One file of an archive: its header block, where it lies, how long it is."""

    header: bytes
    path: Path
    size: int


def list_checkpoints(run_folder: Path) -> list[CheckpointRecord]:
    """Whole checkpoints, newest first; a link in the place of one is none."""
    folder = run_folder / "checkpoints"
    if run_folder.is_symlink() or folder.is_symlink() or not folder.is_dir():
        return []
    found = [_record(path) for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted((record for record in found if record), key=lambda record: -record.step)


def checkpoint_folder(run_folder: Path, name: str) -> Path:
    """Where a checkpoint of that name lies. Raises `NotFoundError` for anything but a whole checkpoint's name."""
    if name not in [record.name for record in list_checkpoints(run_folder)]:
        raise NotFoundError(f"{name[:80]!r} is no checkpoint of this run; take a name from its list of checkpoints")
    return run_folder / "checkpoints" / name


def archive_size(folder: Path) -> int:
    """Length of the archive that `archive` sends."""
    return sum(len(entry.header) + _padded(entry.size) for entry in _entries(folder)) + 2 * _BLOCK


def archive(folder: Path) -> Iterator[bytes]:
    """The checkpoint as a tar archive, piece by piece: its manifest's files and the manifest, no links.

    Raises:
        OSError: a file went or shrank meanwhile; what was sent is then shorter than announced, and not whole.
    """
    for entry in _entries(folder):
        yield entry.header
        left = entry.size
        with os.fdopen(os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            while left and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
        if left:
            raise OSError(f"{entry.path} became shorter while it was sent")
        yield bytes(_padded(entry.size) - entry.size)
    yield bytes(2 * _BLOCK)


def _entries(folder: Path) -> list[_Entry]:
    entries = []
    for name, (path, size) in _files(folder).items():
        info = tarfile.TarInfo(f"{folder.name}/{name}")
        info.size, info.mode, info.mtime = size, 0o644, int(path.stat().st_mtime)
        entries.append(_Entry(info.tobuf(format=tarfile.GNU_FORMAT), path, size))
    return entries


def _record(path: Path) -> CheckpointRecord | None:
    """What is known of a checkpoint; None where it is not whole."""
    try:
        files = _files(path)
        manifest = path / "manifest.json"
        return CheckpointRecord(
            name=path.name,
            step=int(path.name.removeprefix("step-")),
            size_bytes=sum(size for _, size in files.values()),
            files=list(files),
            written_at=datetime.fromtimestamp(manifest.stat().st_mtime, UTC),
        )
    except (OSError, ValueError, NotFoundError):
        return None


def _files(folder: Path) -> dict[str, tuple[Path, int]]:
    """Each file of the manifest, and the manifest itself, with its size. Refuses what leads out of the folder."""
    if folder.is_symlink():
        raise NotFoundError(f"{folder.name} is a link, not a checkpoint; its run's folder was changed by hand")
    manifest = folder / "manifest.json"
    if manifest.is_symlink():
        raise NotFoundError(f"the manifest of {folder.name} is a link; its run's folder was changed by hand")
    names = [*json.loads(manifest.read_text(encoding="utf-8")), manifest.name]
    inside = folder.resolve()
    files = {}
    for name in names:
        path = folder / name
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or path.resolve() != inside / name or not path.is_file():
            raise NotFoundError(f"{folder.name} is no whole checkpoint: its manifest names {name[:80]!r}")
        files[name] = (path, path.stat().st_size)
    return files


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
