from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel

from server.db import Database
from server.errors import StartError
from server.tables import WorkerRow


def test_migrations_from_empty_make_the_tables_that_the_code_declares(tmp_path: Path) -> None:
    database = Database(tmp_path / "natlab.db")
    with database.write() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": False})
        assert compare_metadata(context, SQLModel.metadata) == []
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    database.close()


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    for count in range(2):
        database = Database(tmp_path / "natlab.db")
        with database.write() as session:
            assert session.execute(text("SELECT COUNT(*) FROM worker")).scalar() == count
            session.add(WorkerRow(id=f"w-{count}", hostname="box"))
        database.close()


def test_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "natlab.db")
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(StartError, match=r"natlab\.db does not fit this version.*another NATLAB_HOME"):
        Database(tmp_path / "natlab.db")


def test_readers_cannot_write(tmp_path: Path) -> None:
    database = Database(tmp_path / "natlab.db")
    with database.read() as session, pytest.raises(OperationalError, match="readonly"):
        session.execute(text("DELETE FROM worker"))
    database.close()


def test_an_error_rolls_the_whole_transaction_back(tmp_path: Path) -> None:
    database = Database(tmp_path / "natlab.db")
    with pytest.raises(RuntimeError), database.write() as session:
        session.add(WorkerRow(id="w-1", hostname="box"))
        session.flush()
        raise RuntimeError("half-way")
    with database.read() as session:
        assert session.execute(text("SELECT COUNT(*) FROM worker")).scalar() == 0
    database.close()


def test_writers_of_many_threads_take_turns(tmp_path: Path) -> None:
    database = Database(tmp_path / "natlab.db")
    with database.write() as session:
        session.add(WorkerRow(id="w", hostname="0"))

    def add() -> None:
        for _ in range(25):
            with database.write() as session:
                worker = session.get_one(WorkerRow, "w")
                worker.hostname = str(int(worker.hostname) + 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.get_one(WorkerRow, "w").hostname == "100"
    database.close()
