"""What nobody needs any more, and the disk that it holds: folders of deleted runs, old archives, free pages.

Deleting a run frees its folder and its rows, but SQLite keeps a row's pages for later ones, and a folder
may be left where a disk was away. Here they are given back.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlmodel import col, select

from nat_core.records import RunState
from server import folders
from server.changes import delete_experiment_row
from server.store import Store
from server.tables import ExperimentRow, RunRow, utc_now

log = logging.getLogger(__name__)

_FINAL = [state for state in RunState if state.is_final]


@dataclass(frozen=True)
class Swept:
    """What went, or would go. `checkpoints` are of the runs that are named."""

    experiments: list[str]
    checkpoints: list[str]
    folders: list[str]
    folder_bytes: int
    database_bytes: int


def sweep(
    store: Store, archived_days: float | None = None, checkpoints_days: float | None = None, dry_run: bool = False
) -> Swept:
    """Remove what is left of deleted runs and give the database's free pages back to the disk.

    Args:
        archived_days: remove, too, archived experiments whose last run ended longer ago than this.
        checkpoints_days: remove, too, the checkpoints of runs that ended longer ago than this, the last one included.
        dry_run: only say what would go.
    """
    old = _old_archives(store, archived_days)
    gone = [] if dry_run else [experiment_id for experiment_id in old if _delete(store, experiment_id)]
    left = _left_folders(store.settings.runs, store)
    worn = _old_checkpoints(store, checkpoints_days)
    sizes = {folder: _bytes_in(folder) for folder in [*left, *worn]}
    if not dry_run:
        left, worn = [folder for folder in left if _removed(folder)], [folder for folder in worn if _removed(folder)]
    size = sum(sizes[folder] for folder in [*left, *worn])
    runs, names = [folder.parent.name for folder in worn], [folder.name for folder in left]
    if dry_run:
        return Swept(old, runs, names, size, store.db.free_bytes())
    freed = store.db.give_back()
    log.info(
        "gc: %d archives, %d folders, checkpoints of %d runs, %d bytes of database",
        *(len(gone), len(left), len(worn), freed),
    )
    return Swept(gone, runs, names, size, freed)


def _old_archives(store: Store, days: float | None) -> list[str]:
    if days is None:
        return []
    limit = utc_now() - timedelta(days=days)
    with store.db.read() as session:
        archived = session.exec(select(ExperimentRow.id).where(col(ExperimentRow.archived))).all()
        runs = session.exec(select(RunRow).where(col(RunRow.experiment_id).in_(archived))).all()
    young = {run.experiment_id for run in runs if run.finished_at is None or run.finished_at > limit}
    return sorted(set(archived) - young)


def _delete(store: Store, experiment_id: str) -> bool:
    """Whether it went: since it was looked at somebody may have deleted it, or brought it back."""
    with store.change() as (session, changes):
        row = session.get(ExperimentRow, experiment_id)
        if row is None or not row.archived:
            return False
        delete_experiment_row(session, changes, row)
        return True


def _left_folders(runs: Path, store: Store) -> list[Path]:
    """Folders of runs that the database does not know. Listed before it is asked: a run is in it before its folder."""
    found = sorted(runs.iterdir()) if runs.is_dir() else []
    with store.db.read() as session:
        known = set(session.exec(select(RunRow.id)))
    return [folder for folder in found if folders.is_run_id(folder.name) and folder.name not in known]


def _old_checkpoints(store: Store, days: float | None) -> list[Path]:
    """Of runs that ended long ago: such a run does not go on, so that nobody writes there. Links are left alone."""
    if days is None:
        return []
    limit = utc_now() - timedelta(days=days)
    with store.db.read() as session:
        ended = select(RunRow.id).where(col(RunRow.state).in_(_FINAL), col(RunRow.finished_at) <= limit)
        runs = session.exec(ended).all()
    found = [folders.run_folder(store.settings.runs, run_id) for run_id in sorted(runs)]
    within = [folder / "checkpoints" for folder in found if not folder.is_symlink()]
    return [folder for folder in within if folder.is_dir() and not folder.is_symlink()]


def _removed(folder: Path) -> bool:
    """Whether it went. One that does not, or that somebody removes at this moment, keeps no other from going."""
    try:
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    except OSError as error:
        log.error("%s could not be removed (%s); remove it", folder, error)
        return False
    return True


def _bytes_in(folder: Path) -> int:
    """What a folder holds on disk; links are not followed."""
    if folder.is_symlink() or not folder.is_dir():
        return 0
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it goes at this moment
                found += os.lstat(Path(place) / name).st_blocks * 512
    return found
