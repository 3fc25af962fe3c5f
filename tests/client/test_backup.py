"""`natlab backup`, beside a server that writes on."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from client.backup import BackupError, backup
from client.cli import run
from server.db import Database
from server.tables import WorkerRow


def add(database: Database, number: int) -> None:
    """Two rows in one transaction: a copy has both or neither."""
    with database.write() as session:
        session.add(WorkerRow(id=f"a-{number}", hostname="box"))
        session.add(WorkerRow(id=f"b-{number}", hostname="box"))


def counted(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [copy.execute(f"SELECT COUNT(*) FROM worker WHERE id LIKE '{kind}-%'").fetchone()[0] for kind in "ab"]


def test_the_copy_holds_what_is_only_in_the_log_so_far(tmp_path: Path) -> None:
    database = Database(tmp_path / "natlab.db")
    add(database, 0)
    assert (tmp_path / "natlab.db-wal").stat().st_size > 0
    size = backup(tmp_path, tmp_path / "copies" / "copy.db")
    database.close()
    assert counted(tmp_path / "copies" / "copy.db") == [1, 1]
    assert size == (tmp_path / "copies" / "copy.db").stat().st_size
    assert stat.S_IMODE((tmp_path / "copies" / "copy.db").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["copy.db"]


def test_a_copy_taken_while_others_write_is_one_moment(tmp_path: Path) -> None:
    database = Database(tmp_path / "natlab.db")
    add(database, 0)
    written, stop = [1], threading.Event()

    def write() -> None:
        while not stop.is_set():
            add(database, written[0])
            written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            before = written[0]
            backup(tmp_path, tmp_path / f"copy-{number}.db")
            first, second = counted(tmp_path / f"copy-{number}.db")
            assert first == second >= before
    finally:
        stop.set()
        writer.join()
        database.close()


def test_a_restored_copy_is_a_database_that_the_server_opens(tmp_path: Path) -> None:
    database = Database(tmp_path / "natlab.db")
    add(database, 0)
    backup(tmp_path, tmp_path / "new" / "natlab.db")
    database.close()
    restored = Database(tmp_path / "new" / "natlab.db")
    add(restored, 1)
    restored.close()
    assert counted(tmp_path / "new" / "natlab.db") == [2, 2]


def test_what_cannot_be_copied_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NATLAB_HOME", str(tmp_path))
    assert run(["backup", str(tmp_path / "copy.db")]) == 2
    assert f"NATLAB_HOME is {tmp_path}, which holds no natlab.db" in capsys.readouterr().err
    Database(tmp_path / "natlab.db").close()
    assert run(["backup", str(tmp_path / "natlab.db")]) == 2
    assert "a backup replaces nothing" in capsys.readouterr().err
    assert run(["backup", str(tmp_path / "natlab.db" / "copy.db")]) == 2
    assert "could not be copied to" in capsys.readouterr().err
    assert run(["backup", str(tmp_path / "copy.db")]) == 0
    assert "MiB" in capsys.readouterr().out


def test_a_database_that_is_none_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "natlab.db").write_bytes(b"no database" * 1000)
    with pytest.raises(BackupError, match="could not be copied"):
        backup(tmp_path, tmp_path / "copy.db")
    assert [path.name for path in tmp_path.iterdir()] == ["natlab.db"]
