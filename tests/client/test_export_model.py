"""`natlab export-model` writes a trained model by the trainer's packages, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from client.cli import export_model, run

DONE = {
    "folder": "out",
    "checkpoint": "c",
    "step": 3,
    "kind": "adapter",
    "size_bytes": 2**20,
    "notes": ["one is damaged"],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would be run; each answers as an export does."""
    commands: list[list[str]] = []

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps(DONE) + "\n", "")

    monkeypatch.setattr(export_model.subprocess, "run", answer)
    return commands


def test_what_is_asked_for_is_handed_on_and_what_was_done_is_said(
    asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NATLAB_HOME", str(tmp_path))
    (tmp_path / "runs" / "run-1").mkdir(parents=True)
    assert run(["export-model", "run-1", "out", "--step", "3", "--adapter", "--dtype", "bfloat16"]) == 0
    expected = ["-m", "nat_core.export", str(tmp_path / "runs" / "run-1"), "out", "--dtype", "bfloat16"]
    assert asked == [[sys.executable, *expected, "--step", "3", "--adapter"]]
    told = capsys.readouterr()
    assert "Wrote the adapters of step 3 to out (1.0 MiB)." in told.out and "one is damaged" in told.err
    assert run(["export-model", str(tmp_path), "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == DONE


def test_a_type_that_there_is_not_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export-model", str(tmp_path), str(tmp_path / "out"), "--dtype", "int8"]) == 2
    assert "--dtype is int8" in capsys.readouterr().err


@pytest.mark.slow  # in the trainer's process, which loads torch
def test_what_is_wrong_with_a_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export-model", str(tmp_path), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip().endswith("has no checkpoint; give a run's folder, or a checkpoint's")


def test_a_missing_trainer_is_said_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "Traceback …\nModuleNotFoundError: No module named 'torch'\n")
    monkeypatch.setattr(export_model.subprocess, "run", lambda *_a, **_k: failed)
    assert run(["export-model", "here", "out"]) == 2
    assert "pip install 'natlab[trainer]'" in capsys.readouterr().err
