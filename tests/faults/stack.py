"""A stack of real processes on loopback whose trainer a test kills at an exact place."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import redis

from tests.e2e.support import processes_of
from tests.server.conftest import Api
from tests.server.support import VALKEY, free_port, wait_until

LEASE_S = 3.0
TOKEN = "a-token-for-the-faults"
SEAM = Path(__file__).with_name("seam")
ROOT = Path(__file__).resolve().parents[2]
STEPS = 6

BASE = {
    "steps": STEPS,
    "data": {"type": "demo_arithmetic", "min_operations": 3, "max_operations": 4},
    "rollout": {"num_prompts": 4, "num_generations": 4, "max_completion_length": 48},
    "evaluation": {"every": 0, "num_prompts": 4, "num_samples": 2, "greedy": False},
    "optim": {"learning_rate": 1e-4},
    "checkpoint": {"every": 2, "keep": 2},
}
BUDGET = {"selector": "rpc", "fraction": 0.5}


class Stack:
    """Valkey, a server and a worker, each a process of its own; all of them go at the end."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self.home = folder / "home"
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.mark = folder / "mark"
        self.env = os.environ | {
            "NATLAB_HOME": str(self.home),
            "NATLAB_PORT": str(port),
            "NATLAB_REDIS_URL": f"unix://{socket}",
            "NATLAB_SERVER_URL": self.url,
            "NATLAB_TOKEN": TOKEN,
            "NATLAB_LEASE_S": f"{LEASE_S:g}",
            "NATLAB_HEARTBEAT_S": "0.2",
            "FAULT_MARK": str(self.mark),
            "PYTHONPATH": f"{SEAM}{os.pathsep}{ROOT}",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)
        self.api = Api(self.http)
        self.redis = redis.Redis(unix_socket_path=str(socket), decode_responses=True)
        options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(self.logs)]
        self._spawn("valkey", [str(VALKEY), *options])
        wait_until(self._pings)
        self._spawn("server", [sys.executable, "-m", "server"])
        wait_until(self._is_ready, 30)

    # --- its parts --------------------------------------------------------------------------------

    def start_worker(self, program: Sequence[str] = ("-m", "worker"), **variables: str) -> None:
        """A worker that takes runs; `program` is what its Python runs."""
        self._spawn("worker", [sys.executable, *program], **variables)

    def _spawn(self, name: str, argv: Sequence[str], **variables: str) -> subprocess.Popen[bytes]:
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv, env=self.env | variables, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def _pings(self) -> bool:
        with contextlib.suppress(redis.RedisError, OSError):
            return bool(self.redis.ping())
        return False

    def _is_ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.http.get("/readyz").is_success
        return False

    # --- runs -------------------------------------------------------------------------------------

    def launch(self) -> str:
        """Launch one run; its id."""
        run_id: str = self.api.launch(base=BASE, budgets=[BUDGET])["runs"][0]["id"]
        return run_id

    def folder(self, run_id: str) -> Path:
        return self.home / "runs" / run_id

    def wait_for(self, run_id: str, state: str, timeout_s: float = 60) -> Any:
        """The run, once it is in a state; fails when it ends in another one."""

        def there() -> Any:
            run = self.api.run(run_id)
            assert run["state"] == state or run["finished_at"] is None, (run["state"], run["reason"], run["message"])
            return run if run["state"] == state else None

        return wait_until(there, timeout_s)

    def wait_for_fault(self) -> None:
        """Until the trainer has come to the place that FAULT names."""
        wait_until(self.mark.exists, 40)

    def series(self, run_id: str, key: str = "reward") -> list[tuple[float, float]]:
        (found,) = self.api.call("GET", f"/runs/{run_id}/metrics", params={"keys": key})
        return list(zip(found["x"], found["y"], strict=True))

    # --- the end ----------------------------------------------------------------------------------

    def trainers(self) -> list[str]:
        return [line for line in processes_of(self.home) if str(self.home / "runs") in line]

    def close(self) -> None:
        """Stop everything in order; what cannot be stopped is killed."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.http.close()
        self.redis.close()


def weights(folder: Path) -> dict[str, bytes]:
    """Model and optimizer after the last step, as bytes."""
    newest = max((folder / "checkpoints").glob("step-*"))
    assert newest.name == f"step-{STEPS:08d}"
    return {file.name: file.read_bytes() for file in newest.rglob("*.safetensors")}


def values(folder: Path) -> list[tuple[float, float]]:
    """Reward by step, from the events of a run that nothing disturbed."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [(event["step"], event["values"]["reward"]) for event in events if event["type"] == "metrics"]
