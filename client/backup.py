"""`natlab backup`: a copy of the database while the server writes on.

SQLite's own copying, over a connection that cannot write: the copy is one moment of the database, the
write-ahead log included, and the server waits for nothing.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from nat_core.errors import NatlabError


class BackupError(NatlabError):
    """The database cannot be copied from here, or to there."""

    code = "backup"


def backup(home: Path, target: Path) -> int:
    """Copy `home`'s database to `target`, which must not exist; returns its size in bytes.

    The copy is checked, and appears whole or not at all.
    """
    source = home / "natlab.db"
    if not source.is_file():
        raise BackupError(f"NATLAB_HOME is {home}, which holds no natlab.db; set it to the server's data folder")
    if target.exists():
        raise BackupError(f"{target} exists; name a file that does not, since a backup replaces nothing")
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _copy(source, part)
        part.rename(target)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise BackupError(f"{source} could not be copied to {target} ({error})") from None
    return target.stat().st_size


def _copy(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True, timeout=30)) as database,
        closing(sqlite3.connect(target)) as copy,
    ):
        database.backup(copy)  # all pages in one go: in steps it would begin anew with every write
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
        (answer,) = copy.execute("PRAGMA quick_check").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {answer}")
    with target.open("rb") as file:
        os.fsync(file.fileno())
