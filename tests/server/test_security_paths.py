"""Everything that is served from disk: no name leads out of its folder, and no link is followed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server.errors import NotFoundError
from server.folders import remove_run_folder, run_folder
from tests.server.conftest import Api

SECRET = "root:x:0:0"
WAYS_OUT = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "..%252f..%252fetc%252fpasswd",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "..\\..\\etc\\passwd",
    "..%5c..%5cetc%5cpasswd",
    "app.css%00.png",
    "%00",
    "natlab.db",
    "token",
    "../token",
    "..%2ftoken",
    "....//....//etc/passwd",
    "file:%2f%2f%2fetc%2fpasswd",
    "run-0000000000%00/../../token",
    "%c0%ae%c0%ae/etc/passwd",
    "a" * 5000,
]
SERVED = [
    "/static/{}",
    "/static/vendor/{}",
    "/api/docs/{}",
    "/api/v1/runs/{}/logs",
    "/api/v1/runs/{}/events",
    "/api/v1/runs/{}",
    "/api/v1/experiments/{}",
    "/runs/{}",
    "/runs/{}/logs",
    "/runs/{}/figures.json",
    "/runs/{}/numbers.csv?name=reward",
    "/experiments/{}",
    "/experiments/{}/numbers.json?name=reward",
    "/{}",
]


@pytest.mark.parametrize("way_out", WAYS_OUT)
@pytest.mark.parametrize("place", SERVED)
def test_no_name_leads_out_of_its_folder(client: TestClient, app: FastAPI, place: str, way_out: str) -> None:
    home = app.state.settings.home
    (home / "token").write_text(SECRET)
    answer = client.get(place.format(way_out))
    assert answer.status_code in (404, 405, 422), answer.text[:200]
    assert SECRET not in answer.text and "SQLite format" not in answer.text
    assert str(home) not in answer.text


@pytest.mark.parametrize("name", ["log", "folder"])
def test_a_link_in_a_run_s_folder_is_not_followed(api: Api, client: TestClient, app: FastAPI, name: str) -> None:
    run_id = api.one_run()
    runs: Path = app.state.settings.runs
    outside = runs.parent / "outside"
    outside.mkdir()
    (outside / "trainer.log").write_text(SECRET)
    runs.mkdir(exist_ok=True)
    if name == "folder":
        (runs / run_id).symlink_to(outside)
    else:
        (runs / run_id).mkdir()
        (runs / run_id / "trainer.log").symlink_to(outside / "trainer.log")
    for path in (f"/api/v1/runs/{run_id}/logs", f"/runs/{run_id}/logs"):
        answer = client.get(path)
        assert answer.status_code == 200 and SECRET not in answer.text


def test_a_log_that_is_no_file_is_not_waited_for(api: Api, client: TestClient, app: FastAPI) -> None:
    import os

    run_id = api.one_run()
    folder: Path = app.state.settings.runs / run_id
    folder.mkdir(parents=True)
    os.mkfifo(folder / "trainer.log")  # opening it would block for ever
    assert client.get(f"/api/v1/runs/{run_id}/logs").status_code == 200


def test_deleting_a_run_whose_folder_is_a_link_leaves_what_it_points_to(
    api: Api, app: FastAPI, problem: Callable[..., Any]
) -> None:
    run_id = api.one_run()
    api.call("POST", f"/runs/{run_id}/stop")
    runs: Path = app.state.settings.runs
    (runs.parent / "outside").mkdir()
    (runs.parent / "outside" / "kept").write_text("kept")
    runs.mkdir(exist_ok=True)
    (runs / run_id).symlink_to(runs.parent / "outside")
    api.call("DELETE", f"/runs/{run_id}")
    assert not (runs / run_id).is_symlink() and (runs.parent / "outside" / "kept").read_text() == "kept"


@pytest.mark.parametrize(
    "name", ["..", "", ".", "run-000000000", "run-0000000000/..", "run-0000000000\n", "RUN-0000000000"]
)
def test_only_a_run_s_identifier_names_a_folder(tmp_path: Path, name: str) -> None:
    for act in (run_folder, remove_run_folder):
        with pytest.raises(NotFoundError):
            act(tmp_path, name)
