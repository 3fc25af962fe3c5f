"""Checkpoints are listed and sent from the run's own folder, and nothing else ever is."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server import checkpoints
from server.checkpoints import Archive, checkpoint_folder
from server.errors import NotFoundError
from tests.server.conftest import Api


def write_checkpoint(run_folder: Path, step: int, files: dict[str, bytes]) -> Path:
    folder = run_folder / "checkpoints" / f"step-{step:08d}"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps({name: {"size": len(data)} for name, data in files.items()}))
    return folder


@pytest.fixture
def run_id(api: Api) -> str:
    return api.one_run()


@pytest.fixture
def folder(app: FastAPI, run_id: str) -> Path:
    path: Path = app.state.settings.runs / run_id
    path.mkdir(parents=True)
    return path


def test_checkpoints_are_listed_newest_first_and_only_whole_ones(api: Api, run_id: str, folder: Path) -> None:
    assert api.call("GET", f"/runs/{run_id}/checkpoints") == []
    write_checkpoint(folder, 10, {"state.json": b"{}"})
    write_checkpoint(folder, 20, {"state.json": b"{}", "model/model.safetensors": b"x" * 1000})
    (folder / "checkpoints" / "step-00000030").mkdir()  # no manifest: it was never finished
    (folder / "checkpoints" / ".partial-00000040").mkdir()
    newest, oldest = api.call("GET", f"/runs/{run_id}/checkpoints")
    assert (newest["name"], newest["step"], oldest["step"]) == ("step-00000020", 20, 10)
    assert newest["files"] == ["state.json", "model/model.safetensors", "manifest.json"]
    assert newest["size_bytes"] > 1002


def test_a_download_is_the_checkpoint_as_it_lies_there(client: TestClient, run_id: str, folder: Path) -> None:
    files = {"state.json": b'{"step": 5}', "model/model.safetensors": bytes(range(256)) * 5, f"{'n' * 120}.json": b""}
    path = write_checkpoint(folder, 5, files)
    answer = client.get(f"/api/v1/runs/{run_id}/checkpoints/step-00000005")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="{run_id}-step-00000005.tar"'
    assert int(answer.headers["content-length"]) == len(answer.content) == len(Archive(path))
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]
    assert {name.removeprefix("step-00000005/"): data for name, data in read.items()} == {
        **files,
        "manifest.json": (path / "manifest.json").read_bytes(),
    }


@pytest.mark.parametrize(
    "name", ["step-5", "%2e%2e", "step-00000005%2f..%2f..", ".partial-00000005", "checkpoints", "step-"]
)
def test_only_the_name_of_a_whole_checkpoint_is_answered(
    client: TestClient, run_id: str, folder: Path, name: str
) -> None:
    write_checkpoint(folder, 5, {"state.json": b"{}"})
    assert client.get(f"/api/v1/runs/{run_id}/checkpoints/{name}").status_code in (404, 405)


def test_links_are_never_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    name = "step-00000005"
    path = write_checkpoint(folder, 5, {"state.json": b"{}"})
    (path / "state.json").unlink()
    (path / "state.json").symlink_to(secret)
    with pytest.raises(NotFoundError, match=name):
        checkpoint_folder(folder, name)

    (path / "manifest.json").write_text(json.dumps({"../../../../secret": {}}))
    with pytest.raises(NotFoundError, match=name):
        checkpoint_folder(folder, name)

    elsewhere = write_checkpoint(tmp_path / "elsewhere", 6, {"state.json": b"{}"})
    (folder / "checkpoints" / "step-00000006").symlink_to(elsewhere)
    with pytest.raises(NotFoundError, match="step-00000006"):
        checkpoint_folder(folder, "step-00000006")
    linked = folder.parent / "run-linked"
    linked.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotFoundError, match="step-00000006"):
        checkpoint_folder(linked, "step-00000006")


def test_a_file_that_shrinks_while_it_is_sent_ends_the_answer(folder: Path) -> None:
    path = write_checkpoint(folder, 5, {"a": b"x" * 3_000_000})
    pieces = iter(Archive(path))
    assert len(next(pieces)) == 512
    with (path / "a").open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(OSError, match="became shorter"):
        list(pieces)


@pytest.mark.parametrize("manifest", ["3", "[1]", '"abc"', "null", "{", "[" * 100_000, "{}\x00", '{"a\\u0000b": {}}'])
def test_a_manifest_that_lists_no_files_makes_no_checkpoint(
    client: TestClient, api: Api, run_id: str, folder: Path, manifest: str
) -> None:
    write_checkpoint(folder, 5, {"state.json": b"{}"})
    (write_checkpoint(folder, 6, {"state.json": b"{}"}) / "manifest.json").write_text(manifest)
    assert [found["step"] for found in api.call("GET", f"/runs/{run_id}/checkpoints")] == [5]
    assert client.get(f"/api/v1/runs/{run_id}/checkpoints/step-00000006").status_code == 404


@pytest.mark.parametrize("gone", ["manifest.json", "state.json", "folder"])
def test_a_checkpoint_that_is_pruned_as_it_is_asked_for_is_not_found(
    client: TestClient, run_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    path = write_checkpoint(folder, 5, {"state.json": b"{}"})

    def found_and_pruned(run_folder: Path, name: str) -> Path:
        found = checkpoint_folder(run_folder, name)
        shutil.rmtree(path) if gone == "folder" else (path / gone).unlink()
        return found

    monkeypatch.setattr(checkpoints, "checkpoint_folder", found_and_pruned)
    answer = client.get(f"/api/v1/runs/{run_id}/checkpoints/step-00000005")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
