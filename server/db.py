"""SQLite: one connection that writes, others that read, and migrations at start.

Writes are `BEGIN IMMEDIATE` on a single connection, so that they never fail half-way for a lock, and
so that only one connection ever checkpoints the write-ahead log: SQLite before 3.51.3 can damage a
database when two do at the same time.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlmodel import Session

from server.errors import BusyError, StartError

log = logging.getLogger(__name__)

WRITE_WAIT_S = 2.0
"""For one's turn to write, and again for another process that has the file: both together less than a caller's 5 s."""

_READ_WAIT_S = 30.0
_INCREMENTAL = 2
_PAGES_AT_ONCE = 2000
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """The database file at `path`, created and migrated to the newest schema on opening.

    Raises:
        StartError: it cannot be opened, or another version wrote it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        try:
            _prepare(path)
            self._writer = _engine(_place(str(path)), "BEGIN IMMEDIATE", WRITE_WAIT_S, pool_size=1, max_overflow=0)
            self._migrate()
        except (OSError, sqlite3.Error, DatabaseError) as error:
            reason = getattr(error, "orig", error)
            raise StartError(
                f"the database {path} cannot be opened, or not be brought up to date ({reason}); see that it is whole, "
                "that it is this user's and that its disk has room"
            ) from error
        self._reader = _engine(
            _place(f"file:{quote(str(path))}", mode="ro", uri="true"), "BEGIN", _READ_WAIT_S, pool_size=8
        )

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that commits on leaving and rolls back on an error.

        Raises:
            BusyError: others have been writing for too long. Whoever asked has not given up yet and may ask again;
                one that waited on would only hold a thread that others need.
        """
        if not self._lock.acquire(timeout=WRITE_WAIT_S):
            raise BusyError(f"the database was written to by others for {WRITE_WAIT_S:g} s; try again")
        try:
            with Session(self._writer, expire_on_commit=False) as session, session.begin():
                yield session
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise BusyError(f"another process has held the database for {WRITE_WAIT_S:g} s; try again") from None
        finally:
            self._lock.release()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent snapshot of the database, read only."""
        with Session(self._reader) as session:
            yield session

    def free_bytes(self) -> int:
        """What the file holds without using it."""
        with self.read() as session:
            connection = session.connection()
            pages, size = (
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("freelist_count", "page_size")
            )
        return int(pages) * int(size)

    def give_back(self) -> int:
        """Return the file's free pages to the disk; returns by how many bytes it shrank.

        A little at a time, so that nobody waits long for the write lock. A file from before this was so is
        written anew once, which takes the time and, for a while, the space of a copy.
        """
        before = self.path.stat().st_size
        with self._alone() as raw:
            (mode,) = raw.execute("PRAGMA auto_vacuum").fetchone()
            if mode != _INCREMENTAL:
                raw.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
                raw.execute("VACUUM")
        while self.free_bytes():
            with self._alone() as raw:
                raw.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
        with self._alone() as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return max(0, before - self.path.stat().st_size)

    @contextmanager
    def _alone(self) -> Iterator[Any]:
        """The writing connection outside of a transaction, for what SQLite does in none."""
        with self._lock:
            raw = self._writer.raw_connection()
            try:
                yield raw.driver_connection
            finally:
                raw.close()

    def close(self) -> None:
        self._reader.dispose()
        self._writer.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        with self._writer.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
        if revision == scripts.get_current_head():
            return
        if revision is not None and any(script.revision == revision for script in scripts.walk_revisions()):
            self._copy_before(revision)
        with self._writer.connect() as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StartError(
                    f"the database {self.path} does not fit this version of natlab ({error}); "
                    "use the version that wrote it, or another NATLAB_HOME"
                ) from None

    def _copy_before(self, revision: str) -> None:
        """Keep the database as it is where migrations are about to change it: beside it, named by its revision."""
        copy = self.path.with_name(f"{self.path.name}.{revision}.bak")
        copy.unlink(missing_ok=True)
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with self._alone() as raw, closing(sqlite3.connect(copy)) as kept:
            raw.backup(kept)
            kept.execute("PRAGMA journal_mode = DELETE")
        log.info("the database is brought up to date; as it was it is kept in %s", copy)


def _prepare(path: Path) -> None:
    """Before the first table: a file that can shrink, and that its owner alone can read."""
    if path.exists():
        return
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    with closing(sqlite3.connect(path)) as fresh:
        fresh.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        fresh.execute("VACUUM")


def _place(database: str, **query: str) -> URL:
    """Made from its parts: a folder's name may hold what an address may not."""
    return URL.create("sqlite", database=database, query=query)


def _lower(text: Any) -> Any:
    return text.lower() if isinstance(text, str) else text


def _engine(url: URL, begin: str, wait_s: float, **pool: Any) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": wait_s}, **pool)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # else sqlite3 begins transactions of its own accord
        connection.create_function("lower", 1, _lower, deterministic=True)  # SQLite's own knows A to Z alone
        connection.execute("PRAGMA foreign_keys = ON")
        if begin != "BEGIN":
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
