"""`natlab export` writes the server's report, and never over a file by chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.cli import run
from tests.client.http import answering, problem

ROUTE = "GET /api/v1/experiments/exp-0000000000/report"


def test_export_writes_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.html"
    with answering({ROUTE: (200, "<!doctype html>½".encode())}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["export", "exp-0000000000", str(path)]) == 0
        assert path.read_text(encoding="utf-8") == "<!doctype html>½"
        assert f"Wrote {path}" in capsys.readouterr().out.replace("\n", "")
        path.write_text("mine")
        assert run(["export", "exp-0000000000", str(path)]) == 2
        assert "--force" in capsys.readouterr().err and path.read_text() == "mine"
        assert run(["export", "exp-0000000000", str(path), "--force"]) == 0
        assert path.read_text(encoding="utf-8").startswith("<!doctype")


def test_export_of_what_is_not_there_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({ROUTE: (404, problem(404, "not_found", "it is no experiment"))}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["export", "exp-0000000000", str(tmp_path / "report.html")]) == 2
    assert "it is no experiment" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({ROUTE: (200, b"x")}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["export", "exp-0000000000", str(tmp_path / "none" / "report.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err
