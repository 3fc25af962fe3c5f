from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel

import server.db
from server.db import Database
from server.errors import BusyError, StartError
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


def test_a_copy_is_kept_before_migrations_change_the_database(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(server.db.__file__).parent / "migrations"))
    engine = create_engine(f"sqlite:///{tmp_path}/natlab.db")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO worker VALUES ('w-1', 'box', '{}', '2026-01-01', '2026-01-01')"))
    engine.dispose()
    database = Database(tmp_path / "natlab.db")
    database.close()
    copy = tmp_path / "natlab.db.0001.bak"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
        assert kept.execute("SELECT id FROM worker").fetchall() == [("w-1",)]
        assert kept.execute("SELECT name FROM sqlite_master WHERE name = 'attempt'").fetchone() is None
    Database(tmp_path / "natlab.db").close()  # now there is nothing to change, and nothing to copy
    assert sorted(path.name for path in tmp_path.glob("*.bak")) == ["natlab.db.0001.bak"]


def test_a_new_database_is_its_owner_s_alone_and_keeps_no_copy(tmp_path: Path) -> None:
    database = Database(tmp_path / "natlab.db")
    assert stat.S_IMODE((tmp_path / "natlab.db").stat().st_mode) == 0o600
    with database.read() as session:
        assert session.execute(text("PRAGMA auto_vacuum")).scalar() == 2
    database.close()
    assert list(tmp_path.glob("*.bak")) == []


def test_a_writer_waits_for_its_turn_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.db, "WRITE_WAIT_S", 0.05)
    database = Database(tmp_path / "natlab.db")
    refused: list[BusyError] = []

    def write() -> None:
        try:
            with database.write():
                pass
        except BusyError as error:
            refused.append(error)

    with database.write():
        threads = [threading.Thread(target=write) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(refused) == 5 and refused[0].status == 503
    write()
    assert len(refused) == 5
    database.close()


def test_a_writer_waits_for_another_process_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.db, "WRITE_WAIT_S", 0.05)
    database = Database(tmp_path / "natlab.db")
    with closing(sqlite3.connect(tmp_path / "natlab.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match="another process"), database.write() as session:
            session.add(WorkerRow(id="w-1", hostname="box"))
        other.rollback()
    with database.write() as session:
        session.add(WorkerRow(id="w-1", hostname="box"))
    database.close()


def test_a_call_is_refused_before_its_caller_gives_up() -> None:
    from worker.client import TIMEOUT_S

    assert 2 * server.db.WRITE_WAIT_S < TIMEOUT_S
