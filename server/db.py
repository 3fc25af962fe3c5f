"""SQLite: one connection that writes, others that read, and migrations at start.

Writes are `BEGIN IMMEDIATE` on a single connection, so that they never fail half-way for a lock, and
so that only one connection ever checkpoints the write-ahead log: SQLite before 3.51.3 can damage a
database when two do at the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlmodel import Session

from server.errors import StartError

_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """The database file at `path`, created and migrated to the newest schema on opening."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        self._writer = _engine(f"sqlite:///{path}", "BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
        self._migrate()
        self._reader = _engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true", "BEGIN", pool_size=8)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that commits on leaving and rolls back on an error."""
        with self._lock, Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent snapshot of the database, read only."""
        with Session(self._reader) as session:
            yield session

    def close(self) -> None:
        self._reader.dispose()
        self._writer.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with self._writer.connect() as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StartError(
                    f"the database {self.path} does not fit this version of natlab ({error}); "
                    "use the version that wrote it, or another NATLAB_HOME"
                ) from None


def _engine(url: str, begin: str, **pool: Any) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30}, **pool)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # else sqlite3 begins transactions of its own accord
        connection.execute("PRAGMA foreign_keys = ON")
        if begin != "BEGIN":
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
