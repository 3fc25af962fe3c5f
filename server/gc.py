"""What nobody needs any more, and the disk that it holds: folders of deleted runs, old archives, free pages.

Deleting a run frees its folder and its rows, but SQLite keeps a row's pages for later ones, and a folder
may be left where a disk was away. Here they are given back.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlmodel import col, select

from server import folders
from server.store import Store, delete_experiment_row
from server.tables import ExperimentRow, RunRow, utc_now

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """What went, or would go."""

    experiments: list[str]
    folders: list[str]
    folder_bytes: int
    database_bytes: int


def sweep(store: Store, archived_days: float | None = None, dry_run: bool = False) -> Swept:
    """Remove what is left of deleted runs and give the database's free pages back to the disk.

    Args:
        archived_days: remove, too, archived experiments whose last run ended longer ago than this.
        dry_run: only say what would go.
    """
    old = _old_archives(store, archived_days)
    gone = [] if dry_run else [experiment_id for experiment_id in old if _delete(store, experiment_id)]
    left = _left_folders(store.settings.runs, store)
    size = sum(_bytes_in(folder) for folder in left)
    if dry_run:
        return Swept(old, [folder.name for folder in left], size, store.db.free_bytes())
    for folder in left:
        folders.remove_run_folder(store.settings.runs, folder.name)
    freed = store.db.give_back()
    log.info("gc: %d archives, %d folders, %d bytes of database", len(gone), len(left), freed)
    return Swept(gone, [folder.name for folder in left], size, freed)


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


def _bytes_in(folder: Path) -> int:
    """What a folder holds on disk; links are not followed."""
    if folder.is_symlink() or not folder.is_dir():
        return 0
    return sum(os.lstat(Path(place) / name).st_blocks * 512 for place, _, names in os.walk(folder) for name in names)
