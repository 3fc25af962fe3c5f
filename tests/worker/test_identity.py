"""Which worker a process is, where names meet: one data folder, or one hostname."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Api
from tests.server.support import wait_until
from tests.worker.conftest import Start
from worker.identity import take_identity


def test_workers_of_one_folder_have_names_of_their_own_and_the_folder_s_word(tmp_path: Path) -> None:
    first, second = (take_identity(tmp_path, "my box/1") for _ in range(2))
    assert [first.worker_id, second.worker_id] == ["my-box-1-1", "my-box-1-2"]
    assert first.home == second.home and first.instance != second.instance


def test_a_name_that_meets_another_takes_the_folder_s_word_in_once(tmp_path: Path) -> None:
    here, there = (take_identity(tmp_path / name, "box").with_home() for name in ("here", "there"))
    assert here.worker_id != there.worker_id
    assert here.worker_id == f"box-{here.home[:6]}-1" and here.with_home() == here


def test_what_runs_leave_is_its_owner_s_alone_wherever_the_home_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    take_identity(tmp_path, "box")
    take_identity(tmp_path / "new", "box")
    for folder in (tmp_path / "runs", tmp_path / "new", tmp_path / "new" / "runs"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.slow  # real workers and trainers
def test_two_machines_with_one_hostname_are_two_workers(start: Start, api: Api, tmp_path: Path) -> None:
    for home in ("box-a", "box-b"):
        start(NATLAB_HOME=str(tmp_path / home))

    def there() -> Any:
        return api.call("GET", "/workers")

    wait_until(lambda: len(there()) == 2, 120)
    runs = [api.one_run() for _ in range(4)]
    wait_until(lambda: all(api.run(run_id)["state"] == "succeeded" for run_id in runs), 180)
    assert all(api.run(run_id)["attempt"] == 1 for run_id in runs)
    first, second = (worker["id"] for worker in there())
    assert first != second and len({worker["hostname"] for worker in there()}) == 1
