"""Checkpoints come and go whole, wherever a trainer is killed meanwhile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nat_core.checkpoint import bring_back, cleared_on_error, places, put_in_place
from nat_core.errors import DiskError
from nat_core.manifest import list_checkpoints, seal, verify_checkpoint


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
