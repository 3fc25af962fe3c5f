"""`python -m worker` as a process of its own, taking real messages from a real queue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from server.settings import Settings
from tests.server.conftest import Api
from tests.server.support import free_port, wait_until
from tests.worker.conftest import Start
from tests.worker.test_supervisor import assert_gone

pytestmark = pytest.mark.slow  # real processes, started and ended


def pid_of_trainer(settings: Settings, run_id: str) -> int:
    path = settings.runs / run_id / "pid"
    wait_until(path.exists, 20)
    return int(wait_until(path.read_text))


def test_worker_trains_what_is_launched_one_after_the_other(start: Start, api: Api) -> None:
    process = start()
    record = api.launch()
    path = f"/experiments/{record['id']}"
    wait_until(lambda: api.call("GET", path)["state"] == "succeeded", 30)
    first, second = api.call("GET", path)["runs"]
    assert first["finished_at"] <= second["started_at"]
    (worker,) = api.call("GET", "/workers")
    assert worker["hardware"]["cores"] >= 1 and worker["run_id"] is None
    process.terminate()
    assert process.wait(10) == 0


def test_log_names_run_and_attempt_and_no_secret(start: Start, api: Api) -> None:
    process = start(NATLAB_LOG_FORMAT="json", NATLAB_WORKER_TOKEN="begins")  # a word that the log has
    record = api.launch(budgets=[{"selector": "full"}])
    wait_until(lambda: api.call("GET", f"/experiments/{record['id']}")["state"] == "succeeded", 30)
    process.terminate()
    _, errors = process.communicate(timeout=20)
    told = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    of_run = [(line["message"], line["attempt"]) for line in told if line.get("run") == record["runs"][0]["id"]]
    assert of_run == [("attempt 1 ***", 1), ("succeeded", 1)]


def test_sigterm_ends_the_worker_and_its_trainer(start: Start, api: Api, settings: Settings) -> None:
    process = start(FAKE_STEP_S="0.2")
    first, second = (run["id"] for run in api.launch(base={"steps": 1000})["runs"])
    trainer = pid_of_trainer(settings, first)
    process.terminate()
    assert process.wait(12) == 0
    assert_gone(trainer)
    run = api.run(first)
    assert (run["state"], run["reason"], run["restarts"]) == ("queued", "worker_left", 0)
    assert api.run(second)["state"] == "queued"


def test_sigkill_of_the_worker_leaves_no_trainer(start: Start, api: Api, settings: Settings) -> None:
    process = start(FAKE_STEP_S="0.2")
    run_id = api.launch(base={"steps": 1000}, budgets=[{"selector": "full"}])["runs"][0]["id"]
    trainer = pid_of_trainer(settings, run_id)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert_gone(trainer)


def test_two_workers_share_the_queue_under_two_names(start: Start, api: Api) -> None:
    start()
    start()
    wait_until(lambda: len(api.call("GET", "/workers")) == 2, 20)
    record = api.launch(seeds=[0, 1], base={"steps": 2})
    path = f"/experiments/{record['id']}"
    wait_until(lambda: api.call("GET", path)["state"] == "succeeded", 30)
    assert all(run["attempt"] == 1 for run in api.call("GET", path)["runs"])


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"NATLAB_REDIS_URL": ""}, "NATLAB_REDIS_URL is ''"),
        ({"NATLAB_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"}, "NATLAB_REDIS_URL is 'redis://:***@127.0.0.1:1/0'"),
        ({"NATLAB_REDIS_URL": "redis://:hunter2@box:port"}, "NATLAB_REDIS_URL is 'redis://:***@box:port'"),
        ({"NATLAB_SERVER_URL": "server:8300"}, "NATLAB_SERVER_URL is 'server:8300'"),
        ({"NATLAB_SERVER_URL": "http://server:port"}, "NATLAB_SERVER_URL is 'http://server:port'"),
        ({"NATLAB_SERVER_URL": "https://server", "SSL_CERT_FILE": "/dev/null"}, "SSL_CERT_FILE is '/dev/null'"),
        ({"NATLAB_HOME": "~nobody-at-all"}, "NATLAB_HOME is '~nobody-at-all'"),
        ({"NATLAB_HEARTBEAT_S": "soon"}, "NATLAB_HEARTBEAT_S is 'soon'"),
        ({"NATLAB_SHUTDOWN_GRACE_S": "-1"}, "NATLAB_SHUTDOWN_GRACE_S is '-1'"),
        ({"NATLAB_LOG_FORMAT": "xml"}, "NATLAB_LOG_FORMAT is 'xml', but it is text or json"),
        ({"NATLAB_HOME": "/proc/nowhere"}, "NATLAB_HOME is '/proc/nowhere'"),
    ],
)
def test_what_is_wrong_at_start_is_one_sentence(start: Start, variables: dict[str, str], words: str) -> None:
    process = start(**variables)
    assert process.wait(20) == 2
    assert process.stderr is not None
    said = process.stderr.read()
    assert words in said and said.count("\n") == 1 and "hunter2" not in said


def test_worker_with_a_wrong_token_says_so(start: Start, settings: Settings, redis_url: str) -> None:
    from server.main import create_app
    from tests.server.support import served

    app = create_app(Settings(home=settings.home / "locked", redis_url=redis_url, token="the-right-token"))
    with served(app) as url:
        process = start(NATLAB_SERVER_URL=url, NATLAB_TOKEN="wrong")
        assert process.wait(20) == 2
        assert process.stderr is not None and "needs its token" in process.stderr.read()


def test_the_environment_says_how_long_a_trainer_has_when_its_worker_must_go(
    start: Start, api: Api, settings: Settings
) -> None:
    process = start(FAKE_MODE="deaf", FAKE_STEP_S="30", NATLAB_SHUTDOWN_GRACE_S="0.2")
    trainer = pid_of_trainer(settings, api.one_run())
    process.terminate()
    assert process.wait(4.5) == 0  # the default alone would be 5 s
    assert_gone(trainer)


def test_a_proxy_in_the_environment_is_not_asked_for_the_server(start: Start, api: Api) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    start(HTTP_PROXY=nowhere, http_proxy=nowhere, ALL_PROXY=nowhere, NO_PROXY="", no_proxy="")
    wait_until(lambda: api.call("GET", "/workers"), 20)


def test_worker_waits_for_a_server_that_starts_later(start: Start) -> None:
    process = start(NATLAB_SERVER_URL=f"http://127.0.0.1:{free_port()}")
    assert process.stderr is not None
    assert any("for the server" in line for line in process.stderr)  # read until it says so, or ends
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.terminate()
    process.wait(5)


def test_import_of_the_worker_loads_no_torch() -> None:
    program = "import sys, worker.__main__; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]", done.stderr


@pytest.fixture
def two_gpus(tmp_path: Path) -> str:
    """A PATH whose `nvidia-smi` tells of two GPUs."""
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho '0, H200, 143771'\necho '1, H200, 143771'\n")
    driver.chmod(0o755)
    return f"{driver.parent}{os.pathsep}{os.environ['PATH']}"


def gpu_of(settings: Settings, run_id: str) -> str:
    environment = psutil.Process(pid_of_trainer(settings, run_id)).environ()
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    return environment["CUDA_VISIBLE_DEVICES"]


def test_machine_with_two_gpus_runs_two_runs_each_on_its_own(
    start: Start, api: Api, settings: Settings, two_gpus: str
) -> None:
    process = start(PATH=two_gpus, FAKE_STEP_S="30", NATLAB_LABELS="fast, quiet")
    wait_until(lambda: len(api.call("GET", "/workers")) == 2, 30)
    assert {tuple(worker["labels"]) for worker in api.call("GET", "/workers")} == {("fast", "quiet")}
    experiment = api.launch(base={"steps": 5, "resources": {"worker_label": "quiet"}})
    third = api.one_run()
    runs = [run["id"] for run in experiment["runs"]]
    assert sorted(gpu_of(settings, run_id) for run_id in runs) == ["0", "1"]
    assert (api.run(third)["state"], api.run(third)["queue_position"]) == ("queued", 1)
    api.call("POST", f"/runs/{runs[0]}/kill")
    gpu = wait_until(lambda: (settings.runs / third / "pid").exists() and gpu_of(settings, third), 20)
    assert gpu != gpu_of(settings, runs[1])
    pids = [pid_of_trainer(settings, run_id) for run_id in (runs[1], third)]
    process.terminate()
    assert process.wait(40) == 0
    for pid in pids:
        assert_gone(pid)


def test_slot_that_is_killed_is_started_again_and_all_leave_with_their_parent(
    start: Start, api: Api, settings: Settings
) -> None:
    process = start(NATLAB_WORKER_SLOTS="2")
    wait_until(lambda: len(api.call("GET", "/workers")) == 2, 30)
    slots = psutil.Process(process.pid).children()
    slots[0].kill()
    children = wait_until(
        lambda: (
            (now := psutil.Process(process.pid).children()) != slots
            and len(now) == 2
            and all(child.status() != psutil.STATUS_ZOMBIE for child in now)
            and now
        )
    )
    process.kill()
    for child in children:
        assert_gone(child.pid)


def test_slots_that_cannot_start_end_with_the_reason_and_status_2(start: Start) -> None:
    process = start(NATLAB_WORKER_SLOTS="2", NATLAB_REDIS_URL="redis://127.0.0.1:1")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2 and "NATLAB_REDIS_URL is" in errors


def test_number_of_slots_is_checked(start: Start) -> None:
    process = start(NATLAB_WORKER_SLOTS="none")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2 and "NATLAB_WORKER_SLOTS is 'none'" in errors
