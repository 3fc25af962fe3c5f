"""A server and a Redis with a password on one side, and workers on hosts of their own on the other."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from tests.faults.stack import ROOT, SEAM, TOKEN, Stack
from tests.hosts.lan import Lan
from tests.server.conftest import Api
from tests.server.support import VALKEY, free_port, wait_until

LEASE_S = 3.0
PASSWORD = "0123456789abcdef0123456789abcdef"


class Boxes(Stack):
    """The stack of the fault tests on separate hosts; Redis speaks TCP and wants a password, as in compose."""

    def __init__(self, folder: Path, lan: Lan) -> None:
        self.root, self.home, self.logs = folder, folder / "home", folder / "logs"
        self.mark, self.clock = folder / "mark", folder / "clock"
        self.logs.mkdir()
        self.lan = lan
        self.parts = {}
        self._redis_port, port = free_port(), free_port()
        self.url = f"http://{self.lan.address}:{port}"
        self.env = os.environ | {
            "NATLAB_HOST": self.lan.address,
            "NATLAB_PORT": str(port),
            "NATLAB_HOME": str(self.home),
            "NATLAB_TOKEN": TOKEN,
            "NATLAB_LEASE_S": f"{LEASE_S:g}",
            "NATLAB_REDIS_URL": f"redis://:{PASSWORD}@{self.lan.address}:{self._redis_port}/0",
            "FAULT_MARK": str(self.mark),
            "PYTHONPATH": f"{SEAM}{os.pathsep}{ROOT}",
        }
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False)
        self.api = Api(self.http)
        self.redis = redis.Redis(self.lan.address, self._redis_port, password=PASSWORD, decode_responses=True)
        self.start_valkey()
        self.start_server()

    def start_valkey(self) -> None:
        """Debian's redis-server where it is installed, else Valkey, with what the compose file asks of it."""
        config = self.root / "redis.conf"
        config.write_text(
            f"bind {self.lan.address}\nport {self._redis_port}\nrequirepass {PASSWORD}\ndir {self.logs}\n"
            "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\nsave ''\n"
        )
        self._spawn("redis", [shutil.which("redis-server") or str(VALKEY), str(config)])
        wait_until(self._pings)

    def start_box(self, name: str, shares_runs: bool, **variables: str) -> None:
        """A worker on a host and in a data folder of its own, told two addresses and a worker's token.

        Args:
            shares_runs: whether the runs' folders are the same on all hosts, as on a shared file system. A file server
                gives up the lock of a client that it does not hear of; this file system does not. So such hosts see
                each other's processes, and who takes a run over ends the trainer that holds its folder.
        """
        home = self.root / name
        home.mkdir()
        if shares_runs:
            (self.home / "runs").mkdir(exist_ok=True)
            (home / "runs").symlink_to(self.home / "runs")
        told = {key: self.env[key] for key in ("NATLAB_REDIS_URL", "FAULT_MARK", "PYTHONPATH")} | {
            "NATLAB_HOME": str(home),
            "NATLAB_SERVER_URL": self.url,
            "NATLAB_WORKER_TOKEN": (self.home / "worker-token").read_text().strip(),
            "NATLAB_HEARTBEAT_S": "0.2",
            "NATLAB_SPARE_TRAINER": "off",
            "OMP_NUM_THREADS": "1",
            "HOME": os.environ.get("HOME", "/"),
        }
        argv = [sys.executable, "-m", "worker"]
        self.parts[name] = self.lan.start(name, argv, told | variables, self.logs / f"{name}.log", shares_runs)

    def boxes(self) -> set[str]:
        """The names of the hosts whose workers have registered."""
        return {worker["hostname"] for worker in self.api.call("GET", "/workers")}

    def box_of(self, run: Any) -> str:
        """The name of the host that has a run, or had it last."""
        return str(run["worker_id"] or run["attempts"][-1]["worker_id"]).rpartition("-")[0]

    def folder_on(self, name: str, run_id: str) -> Path:
        return self.root / name / "runs" / run_id

    def trainers(self) -> list[str]:
        """Those of runs, on any host: seen from outside, every host's processes are there."""
        return [
            line for line in map(_told, psutil.process_iter()) if str(self.root) in line and " -m nat_core " in line
        ]

    def close(self) -> None:
        for name in self.lan.hosts:
            for child in _below(self.parts[name].pid):
                child.send_signal(signal.SIGKILL)
        super().close()


def _told(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return ""


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
