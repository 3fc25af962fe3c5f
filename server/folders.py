"""Run folders on disk: `<home>/runs/<run id>`, and nothing outside."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from server.errors import NotFoundError

_RUN_ID = re.compile(r"run-[0-9a-z]{10}")


def is_run_id(name: str) -> bool:
    return _RUN_ID.fullmatch(name) is not None


def run_folder(runs: Path, run_id: str) -> Path:
    """The folder of a run. Raises `NotFoundError` for anything that is not a run's identifier."""
    if not is_run_id(run_id):
        raise NotFoundError(f"{run_id[:80]!r} is no run; take an id from `natlab ls` or GET /api/v1/runs")
    return runs / run_id


def remove_run_folder(runs: Path, run_id: str) -> None:
    """Free what a run holds on disk. A link in its place is removed, never followed."""
    folder = run_folder(runs, run_id)
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def tail_text(path: Path, max_bytes: int) -> str:
    """The last lines of a text file, whole ones; empty where there is none.

    No link is followed, of the file or of its folder, and no pipe is waited for: a trainer wrote what is there.
    """
    try:
        file = _open_in(path.parent, path.name)
    except OSError:
        return ""
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return ""
        size = file.seek(0, 2)
        file.seek(max(0, size - max_bytes))
        text = file.read(max_bytes).decode("utf-8", "replace")
    if size > max_bytes:
        text = text.partition("\n")[2]
    return text


def _open_in(folder: Path, name: str) -> BinaryIO:
    within = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=within), "rb")
    finally:
        os.close(within)
