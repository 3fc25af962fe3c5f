"""Everything that is served from disk: no name leads out of its folder, and no link is followed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server.errors import NotFoundError
from server.folders import remove_run_folder, run_folder
from tests.server.conftest import Api
from tests.server.test_security_routes import routes_of

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
STEP = "step-00000004"
QUERY = {"name": "reward", "keys": "reward"}


def real(api: Api, app: FastAPI) -> dict[str, str]:
    """By parameter, a value that names something: a run with a log and a checkpoint."""
    experiment = api.launch(budgets=[{"selector": "full"}])
    run_id = experiment["runs"][0]["id"]
    folder: Path = app.state.settings.runs / run_id
    (folder / "checkpoints" / STEP).mkdir(parents=True)
    (folder / "checkpoints" / STEP / "state.json").write_text("{}")
    (folder / "checkpoints" / STEP / "manifest.json").write_text('{"state.json": {}}')
    (folder / "trainer.log").write_text("a line")
    names = {"experiment_id": experiment["id"], "run_id": run_id, "worker_id": "w-1", "name": STEP}
    return names | {"kind": "csv", "tab": "logs", "file": "app.css"}


def places(app: FastAPI) -> list[str]:
    """The path of everything that is served by a name, which stands in braces."""
    found = sorted({path for method, path in routes_of(app.routes) if method == "GET" and "{" in path})
    return [*found, "/{nowhere}", "/static/vendor/{file}"]


@pytest.mark.parametrize("way_out", WAYS_OUT)
def test_no_name_leads_out_of_its_folder(client: TestClient, app: FastAPI, api: Api, way_out: str) -> None:
    home = app.state.settings.home
    known = real(api, app)
    (home / "token").write_text(SECRET)
    tried = 0
    for place in places(app):
        for parameter in re.findall(r"\{(\w+)\}", place):
            path = place.format_map({**known, parameter: way_out})
            answer = client.get(f"{path}?{urlencode(QUERY)}", follow_redirects=False)
            assert answer.status_code in (404, 405, 422), (path, answer.status_code, answer.text[:200])
            assert SECRET not in answer.text and "SQLite format" not in answer.text, path
            assert str(home) not in answer.text, path
            tried += 1
    assert tried >= 25


def test_everything_that_is_served_is_there_to_be_attacked(client: TestClient, app: FastAPI, api: Api) -> None:
    """So that the attacks above fail by the name that they put in, and not for another reason."""
    known = real(api, app)
    for place in places(app)[:-2]:
        if place != "/api/docs/{name}":
            answer = client.get(f"{place.format_map(known)}?{urlencode(QUERY)}")
            assert answer.status_code == 200, (place, answer.status_code, answer.text[:200])


@pytest.mark.parametrize(
    "link", ["", "trainer.log", "checkpoints", f"checkpoints/{STEP}", f"checkpoints/{STEP}/manifest.json", "file"]
)
def test_a_link_in_a_run_s_folder_is_not_followed(api: Api, client: TestClient, app: FastAPI, link: str) -> None:
    known = real(api, app)
    folder: Path = app.state.settings.runs / known["run_id"]
    outside = app.state.settings.home / "outside"
    folder.rename(outside)
    (outside / "trainer.log").write_text(SECRET)
    (outside / "checkpoints" / STEP / "state.json").write_text(SECRET)
    place = link.replace("file", f"checkpoints/{STEP}/state.json")
    if place:
        shutil.copytree(outside, folder)
        (folder / "trainer.log").write_text("a line")
        taken = folder / place
        shutil.rmtree(taken) if taken.is_dir() else taken.unlink()
    (folder / place).symlink_to(outside / place)
    for path in places(app)[:-2]:
        if path != "/api/docs/{name}" and "checkpoints" not in path:
            answer = client.get(f"{path.format_map(known)}?{urlencode(QUERY)}")
            assert SECRET not in answer.text, path
    listed = client.get(f"/api/v1/runs/{known['run_id']}/checkpoints")
    sent = client.get(f"/api/v1/runs/{known['run_id']}/checkpoints/{STEP}")
    if link == "trainer.log":
        assert len(listed.json()) == 1 and sent.status_code == 200
    else:
        assert (listed.json(), sent.status_code) == ([], 404) and SECRET not in sent.text


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
