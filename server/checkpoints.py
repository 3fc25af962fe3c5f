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
_MANIFEST = "manifest.json"
_BLOCK = 512  # what a tar archive is made of
_CHUNK = 1024 * 1024


class Archive:
    """A checkpoint as a tar archive: its manifest's files and the manifest, no links.

    Raises:
        NotFoundError: it is no whole checkpoint, or no longer: a trainer prunes old ones.
    """

    def __init__(self, folder: Path) -> None:
        self._entries = _entries(folder)

    def __len__(self) -> int:
        return sum(len(entry.header) + _padded(entry.size) for entry in self._entries) + 2 * _BLOCK

    def __iter__(self) -> Iterator[bytes]:
        """Piece by piece.

        Raises:
            OSError: a file went or shrank meanwhile; what was sent is then shorter than announced, and not whole.
        """
        for entry in self._entries:
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


@dataclass(frozen=True)
class _Entry:
    """One file of an archive: its header block, where it lies, how long it is."""

    header: bytes
    path: Path
    size: int


@dataclass(frozen=True)
class _File:
    """One file of a checkpoint."""

    path: Path
    size: int
    written_at: float


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


def _entries(folder: Path) -> list[_Entry]:
    entries = []
    for name, file in _files(folder).items():
        info = tarfile.TarInfo(f"{folder.name}/{name}")
        info.size, info.mode, info.mtime = file.size, 0o644, int(file.written_at)
        entries.append(_Entry(info.tobuf(format=tarfile.GNU_FORMAT), file.path, file.size))
    return entries


def _record(path: Path) -> CheckpointRecord | None:
    """What is known of a checkpoint; None where it is not whole."""
    try:
        files = _files(path)
    except NotFoundError:
        return None
    return CheckpointRecord(
        name=path.name,
        step=int(path.name.removeprefix("step-")),
        size_bytes=sum(file.size for file in files.values()),
        files=list(files),
        written_at=datetime.fromtimestamp(files[_MANIFEST].written_at, UTC),
    )


def _files(folder: Path) -> dict[str, _File]:
    """Each file of the manifest, and the manifest itself. Refuses what leads out of the folder."""
    if folder.is_symlink():
        raise NotFoundError(f"{folder.name} is a link, not a checkpoint; its run's folder was changed by hand")
    try:
        return _listed(folder)
    except (OSError, ValueError, RecursionError):
        raise NotFoundError(f"{folder.name} is no whole checkpoint, or was removed just now; list them again") from None


def _listed(folder: Path) -> dict[str, _File]:
    manifest = folder / _MANIFEST
    if manifest.is_symlink():
        raise NotFoundError(f"the manifest of {folder.name} is a link; its run's folder was changed by hand")
    listed = json.loads(manifest.read_text(encoding="utf-8"))
    if not isinstance(listed, dict):
        raise NotFoundError(f"the manifest of {folder.name} lists no files; its run's folder was changed by hand")
    names = [*listed, _MANIFEST]
    inside = folder.resolve()
    files = {}
    for name in names:
        path = folder / name
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or path.resolve() != inside / name or not path.is_file():
            raise NotFoundError(f"{folder.name} is no whole checkpoint: its manifest names {name[:80]!r}")
        found = path.stat()
        files[name] = _File(path, found.st_size, found.st_mtime)
    return files


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
