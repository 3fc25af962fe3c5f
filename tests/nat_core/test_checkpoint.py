"""Checkpoints come and go whole, wherever a trainer is killed meanwhile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nat_core import checkpoint_folder
from nat_core.checkpoint_folder import (
    bring_back,
    cleared_on_error,
    list_checkpoints,
    places,
    put_in_place,
    seal,
    verify_checkpoint,
)
from nat_core.errors import DiskError


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def write(folder: Path, step: int, word: str, keep: int = 2) -> None:
    """A checkpoint whose state holds a word, by the way that the real ones take."""
    final, partial = places(folder, step)
    shutil.rmtree(partial, ignore_errors=True)
    with cleared_on_error(partial, final):
        partial.mkdir(parents=True)
        (partial / "optimizer.safetensors").write_bytes(b"x" * 10)
        seal(partial, {"word": word})
        put_in_place(partial, final, keep)


def words(folder: Path) -> dict[str, str]:
    """Of the whole checkpoints, oldest first."""
    found = list_checkpoints(folder, damaged=True)
    for path in found:
        verify_checkpoint(path)
    return {path.name: json.loads((path / "state.json").read_text())["word"] for path in found}


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> None:
    """Let the call of `rename` with this number, from 1, raise."""
    calls, rename = [0], Path.rename

    def counted(path: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] == number:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", counted)


def test_put_in_place_prunes_the_oldest_and_clears_what_a_kill_left(tmp_path: Path) -> None:
    (tmp_path / ".partial-00000001").mkdir()
    (tmp_path / ".pruned-step-00000001" / "model").mkdir(parents=True)
    for step in (2, 4, 6):
        write(tmp_path, step, f"after {step}")
    assert words(tmp_path) == {"step-00000004": "after 4", "step-00000006": "after 6"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000006"]


def test_seal_brings_the_entries_of_every_folder_to_disk_before_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may else leave a manifest, and a model folder without its files."""
    told: list[str] = []
    sync = checkpoint_folder.fsync
    monkeypatch.setattr(checkpoint_folder, "fsync", lambda path: told.append(path.name) or sync(path))
    partial = tmp_path / "partial"
    (partial / "model").mkdir(parents=True)
    (partial / "model" / "model.safetensors").write_bytes(b"x")
    (partial / "optimizer.safetensors").write_bytes(b"x")
    seal(partial, {})
    assert set(told[:-2]) == {"model", "model.safetensors", "optimizer.safetensors", "state.json"}
    assert told[-2:] == ["manifest.json", "partial"]


@pytest.mark.parametrize(("rename", "kept"), [(1, "old"), (2, "old"), (3, "new")])
def test_put_in_place_killed_at_a_rename_keeps_a_whole_one_of_that_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rename: int, kept: str
) -> None:
    write(tmp_path, 2, "first")
    write(tmp_path, 4, "old")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        fail_at(patched, rename, Killed())  # the old one steps aside, the new one comes, the first one is pruned
        write(tmp_path, 4, "new", keep=1)
    bring_back(tmp_path)
    assert words(tmp_path) == {"step-00000002": "first", "step-00000004": kept}
    write(tmp_path, 4, "again", keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]
    assert words(tmp_path) == {"step-00000004": "again"}


def test_put_in_place_that_a_full_disk_refuses_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 4, "old")
    with monkeypatch.context() as patched, pytest.raises(DiskError, match="step-00000004 cannot be written"):
        fail_at(patched, 2, OSError(28, "No space left on device"))
        write(tmp_path, 4, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]
    assert words(tmp_path) == {"step-00000004": "old"}
