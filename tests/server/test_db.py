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
from server import rollup
from server.db import Database
from server.errors import BusyError, StartError
from server.tables import AttemptRow, ExperimentRow, RunRow, WorkerRow


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


@pytest.mark.parametrize("damage", ["no database", "another's folder"])
def test_what_is_no_database_is_refused_in_a_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "natlab.db"
    if damage == "no database":
        path.write_bytes(b"what a crash or a careless copy left behind\n" * 100)
    else:
        path.mkdir()
    with pytest.raises(StartError, match=r"natlab\.db cannot be opened.*see that it is whole"):
        Database(path)


def test_a_folder_s_name_may_hold_what_an_address_may_not(tmp_path: Path) -> None:
    path = tmp_path / "100% what? #1 ünï" / "natlab.db"
    database = Database(path)
    with database.write() as session:
        session.add(WorkerRow(id="w-1", hostname="box"))
    with database.read() as session:
        assert session.get_one(WorkerRow, "w-1").hostname == "box"
    database.close()
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("SELECT id FROM worker").fetchall() == [("w-1",)]
    assert [found.name for found in tmp_path.iterdir()] == [path.parent.name]


_OF_OLD: dict[str, dict[str, object]] = {
    "experiment": {"id": "exp-1", "name": "old", "tags": "[]", "notes": "", "archived": 0, "spec": "{}"},
    "run": {
        "id": "run-1",
        "experiment_id": "exp-1",
        "cell": 0,
        "label": "full",
        "seed": 0,
        "state": "succeeded",
        "attempt": 1,
        "worker_id": "w-1",
        "step": 1,
        "steps": 1,
        "latest": "{}",
        "tags": "[]",
        "notes": "",
        "archived": 0,
        "spec": "{}",
        "started_at": "2026-01-01 00:00:00.000000",
    },
    "worker": {"id": "w-1", "hostname": "box", "hardware": "{}"},
    "event": {
        "run_id": "run-1",
        "attempt": 1,
        "seq": 1,
        "type": "metrics",
        "step": 1,
        "time": 1.0,
        "body": '{"seq":1,"time":1.0,"step":1,"type":"metrics","values":{"reward":0.5}}',
    },
}
_MOMENTS = ("created_at", "registered_at", "seen_at")


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004", "0005", "0006"])
def test_a_database_of_every_earlier_schema_is_read_as_one_of_this(tmp_path: Path, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(server.db.__file__).parent / "migrations"))
    engine = create_engine(f"sqlite:///{tmp_path}/natlab.db")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for table, row in _OF_OLD.items():
            known = {name for _, name, *_ in connection.exec_driver_sql(f"PRAGMA table_info({table})")}
            moments = {name: "2026-01-01 00:00:00.000000" for name in _MOMENTS if name in known}
            values = row | moments
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)
    engine.dispose()
    database = Database(tmp_path / "natlab.db")
    with database.read() as session:
        assert session.get_one(ExperimentRow, "exp-1").launch_key is None
        run, worker = session.get_one(RunRow, "run-1"), session.get_one(WorkerRow, "w-1")
        assert (run.priority, run.restarts, run.resumed_step, run.instance) == (0, 0, 0, "")
        assert (worker.labels, worker.instance, worker.home) == ([], "", "")
        if revision == "0001":  # from then on whoever stored the event stored these, too
            assert session.get_one(AttemptRow, ("run-1", 1)).worker_id == "w-1"
        if revision < "0003":
            assert [bucket.points() for bucket in rollup.read(session, "run-1", 1, "reward", 16, -1)] == [[(1, 0.5)]]
    with database.write() as session:
        assert compare_metadata(MigrationContext.configure(session.connection()), SQLModel.metadata) == []
    database.close()


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
