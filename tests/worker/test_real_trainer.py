"""The worker with the real trainer on the built-in model, launched through the API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from server.settings import Settings
from tests.server.conftest import Api
from tests.server.support import wait_until
from tests.worker.test_spare import children_of
from tests.worker.test_supervisor import assert_gone

pytestmark = pytest.mark.slow

TINY = {
    "steps": 2,
    "rollout": {"num_prompts": 6, "num_generations": 4, "max_completion_length": 96},
    "evaluation": {"every": 0, "num_prompts": 4, "num_samples": 2, "greedy": False},
    "optim": {"learning_rate": 1e-4},
}


@pytest.fixture
def worker(settings: Settings, redis_url: str, server_url: str) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **os.environ,
        "NATLAB_HOME": str(settings.home),
        "NATLAB_REDIS_URL": redis_url,
        "NATLAB_SERVER_URL": server_url,
        "NATLAB_HEARTBEAT_S": "0.5",
    }
    process = subprocess.Popen([sys.executable, "-m", "worker"], env=env)
    yield process
    process.kill()
    process.wait()


def test_runs_train_and_are_compared(api: Api, worker: subprocess.Popen[bytes], settings: Settings) -> None:
    record = api.launch(base=TINY)
    path = f"/experiments/{record['id']}"
    wait_until(lambda: api.call("GET", path)["state"] in ("succeeded", "failed"), 120)
    for run in api.call("GET", path)["runs"]:
        assert (run["state"], run["step"]) == ("succeeded", 2), run["message"]
        assert {"reward", "tokens/selected", "timing_s/update", "eval/accuracy"} <= set(run["latest"])
        assert run["hardware"]
        assert list((settings.runs / run["id"]).rglob("*.safetensors"))
    full, half = api.call("GET", f"{path}/comparison")["cells"]
    assert full["tokens_selected"]["mean"] > half["tokens_selected"]["mean"] > 0
    run_ids = ",".join(run["id"] for run in record["runs"])
    series = api.call("GET", "/metrics", params={"run_ids": run_ids, "keys": "eval/accuracy"})
    assert [one["x"] for one in series] == [[0, 2], [0, 2]]  # evaluated before and after


def test_stop_reaches_the_trainer_within_five_seconds(api: Api, worker: subprocess.Popen[bytes]) -> None:
    record = api.launch(base={**TINY, "steps": 10_000}, budgets=[{"selector": "full"}])
    run_id = record["runs"][0]["id"]
    wait_until(lambda: api.run(run_id)["step"] >= 1, 60)
    api.call("POST", f"/runs/{run_id}/stop")
    asked = time.time()
    run = wait_until(lambda: (found := api.run(run_id))["state"] == "stopped" and found, 60)
    assert run["reason"] is None and run["step"] < 10_000
    steps = api.call("GET", f"/runs/{run_id}/events", params={"type": "metrics", "limit": 1000})
    late = [step for step in steps if step["time"] > asked + 5]
    assert len(late) <= 1  # the step it was in when it heard


def test_trainer_does_not_outlive_a_worker_that_is_killed(api: Api, worker: subprocess.Popen[bytes]) -> None:
    record = api.launch(base={**TINY, "steps": 10_000}, budgets=[{"selector": "full"}])
    run_id = record["runs"][0]["id"]
    wait_until(lambda: api.run(run_id)["step"] >= 1, 60)
    (trainer,) = children_of(worker, "nat_core")
    assert any(run_id in argument for argument in psutil.Process(trainer).cmdline())
    worker.send_signal(signal.SIGKILL)
    worker.wait(15)
    assert_gone(trainer)
