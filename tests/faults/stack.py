"""A stack of real processes on loopback whose trainer a test kills at an exact place."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from server.event_log import ATTEMPT_STRIDE
from tests.e2e.support import processes_of
from tests.server.conftest import Api
from tests.server.support import VALKEY, free_port, wait_until

LEASE_S = 3.0
HANG_S = "30"  # a trainer loads torch in that time, too, on a machine that is busy
TOKEN = "a-token-for-the-faults"
SEAM = Path(__file__).with_name("seam")
ROOT = Path(__file__).resolve().parents[2]
STEPS = 6
FULL_BYTES = 100_000

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
    """Valkey, a server and workers, each a process of its own; all of them go at the end."""

    def __init__(self, folder: Path, socket: Path, lease_s: float = LEASE_S) -> None:
        self.home = folder / "home"
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.socket = socket
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.mark = folder / "mark"
        self.clock = folder / "clock"
        self.env = os.environ | {
            "NATLAB_HOME": str(self.home),
            "NATLAB_PORT": str(self.port),
            "NATLAB_REDIS_URL": f"unix://{socket}",
            "NATLAB_SERVER_URL": self.url,
            "NATLAB_TOKEN": TOKEN,
            "NATLAB_LEASE_S": f"{lease_s:g}",
            "NATLAB_HEARTBEAT_S": "0.2",
            "NATLAB_CHANGES_PER_S": "1000",
            "FAULT_MARK": str(self.mark),
            "PYTHONPATH": f"{SEAM}{os.pathsep}{ROOT}",
        }
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)
        self.api = Api(self.http)
        self.redis = redis.Redis(unix_socket_path=str(socket), decode_responses=True)
        self.start_valkey()
        self.start_server()

    # --- its parts --------------------------------------------------------------------------------

    def start_valkey(self) -> None:
        """An empty one: what an earlier one held is gone."""
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.logs)]
        self._spawn("valkey", [str(VALKEY), *options])
        wait_until(self._pings)

    def start_server(self) -> None:
        self._spawn("server", [sys.executable, "-m", "server"], CLOCK_FILE=str(self.clock))
        wait_until(self._is_ready, 30)

    def set_clock_of_the_server(self, skew_s: float) -> None:
        self.clock.write_text(f"{skew_s}")

    def start_worker(self, program: Sequence[str] = ("-m", "worker"), name: str = "worker", **variables: str) -> None:
        """A worker that takes runs; `program` is what its Python runs."""
        self._spawn(name, [sys.executable, *program], **variables)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a part; after SIGKILL it is gone when this returns."""
        self.parts[name].send_signal(number)
        if number == signal.SIGKILL:
            self.parts[name].wait(20)

    @contextlib.contextmanager
    def disk_full(self, name: str) -> Iterator[None]:
        """No file of a part grows beyond what its log may need."""
        pid, (_, most) = self.parts[name].pid, resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL_BYTES, most))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))

    def peak_memory(self, name: str) -> int:
        """The most that a part ever had resident, in bytes."""
        status = Path(f"/proc/{self.parts[name].pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) * 1024

    def log(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text()

    def _spawn(self, name: str, argv: Sequence[str], **variables: str) -> None:
        with (self.logs / f"{name}.log").open("ab") as log:
            self.parts[name] = subprocess.Popen(
                argv, env=self.env | variables, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

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
        wait_until(self.mark.exists, 60)

    def trainer(self) -> int:
        """The process number of the only trainer."""
        (pid,) = [int(line.split()[0]) for line in self.trainers()]
        return pid

    def go_on(self, once_asked_to_end: bool = False) -> None:
        """Let a trainer that stopped itself at the place run on."""
        pid = self.trainer()
        if once_asked_to_end:
            wait_until(lambda: signal.SIGTERM in pending_signals(pid))
        os.kill(pid, signal.SIGCONT)

    def wait_for_the_end_of_training(self, run_id: str) -> None:
        """Until the trainer has written its last event, whoever may have heard of it."""
        wait_until(lambda: '"phase":"ended"' in (self.folder(run_id) / "events.jsonl").read_text(), 60)

    def act(self, run_id: str, action: str) -> Any:
        return self.api.call("POST", f"/runs/{run_id}/{action}")

    def series(self, run_id: str, key: str = "reward") -> list[tuple[float, float]]:
        (found,) = self.api.call("GET", f"/runs/{run_id}/metrics", params={"keys": key})
        return list(zip(found["x"], found["y"], strict=True))

    def outcome(self, run_id: str) -> Any:
        """What the server summed the run up to when it ended."""
        with closing(sqlite3.connect(f"file:{self.home}/natlab.db?mode=ro", uri=True)) as database:
            (sums,) = database.execute("SELECT sums FROM outcome WHERE run_id = ?", (run_id,)).fetchone()
        return json.loads(sums)

    # --- the end ----------------------------------------------------------------------------------

    def spare(self) -> int:
        """The process number of the only trainer that waits for a run, once it does."""
        (line,) = wait_until(
            lambda: [line for line in processes_of(self.home) if "-m nat_core.spare waiting" in line], 60
        )
        return int(line.split()[0])

    def trainers(self) -> list[str]:
        """Those of runs; one that waits for a run shows none."""
        return [line for line in processes_of(self.home) if str(self.home / "runs") in line]

    def left_of_the_trainer(self) -> list[str]:
        """Living processes of the session of the trainer that came to FAULT's place, whatever they are called."""
        session = int(self.mark.read_text()) if self.mark.exists() else -1
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
        return found

    def close(self) -> None:
        """End everything at once, trainers with their workers: what a test wanted to see has been seen."""
        for process in self.parts.values():
            process.kill()
            process.wait()
        self.http.close()
        self.redis.close()


def assert_as_if_nothing_had_happened(stack: Stack, run_id: str, undisturbed: Path) -> None:
    """Every step once, with the values and the weights of a run that went straight through."""
    reported = stack.api.call("GET", f"/runs/{run_id}/events", params={"type": "metrics"})
    expected = events(undisturbed, "metrics")
    assert [event["step"] for event in reported] == list(range(1, STEPS + 1))
    assert [of_training(event["values"]) for event in reported] == [of_training(event["values"]) for event in expected]
    assert stack.series(run_id) == [(event["step"], event["values"]["reward"]) for event in expected]
    evaluated = stack.api.call("GET", f"/runs/{run_id}/events", params={"type": "evaluation"})
    answers = [(event["step"], event["correct"]) for event in events(undisturbed, "evaluation")]
    assert [(event["step"], event["correct"]) for event in evaluated] == answers and len(answers) == 2
    for key in ("tokens/generated", "tokens/selected", "tokens/trunk"):
        total = sum(event["values"][key] for event in expected)
        assert stack.outcome(run_id)[key.replace("/", "_")] == total
    assert_all_samples_arrived(stack.folder(run_id), reported)
    assert weights(stack.folder(run_id)) == weights(undisturbed)
    wait_until(lambda: stack.trainers() == [])


def assert_all_samples_arrived(folder: Path, reported: list[Any]) -> None:
    """Each step has what its worker sampled of the machine, whichever way its event took."""
    kept: dict[int, Any] = {}
    for path in folder.glob("usage.*.jsonl"):
        first = (int(path.suffixes[0].removeprefix(".")) - 1) * ATTEMPT_STRIDE
        kept |= {first + line["seq"]: line["values"] for line in map(json.loads, path.read_text().splitlines())}
    arrived = {event["seq"]: of_machine(event["values"]) for event in reported}
    assert arrived == {seq: kept.get(seq, {}) for seq in arrived}
    assert any("system/memory_gib" in values for values in arrived.values())


def pending_signals(pid: int) -> set[int]:
    """Signals that were sent to a process and have not reached it."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    mask = int(fields["ShdPnd"], 16)
    return {number for number in range(1, 64) if mask >> (number - 1) & 1}


def weights(folder: Path) -> dict[str, bytes]:
    """Model and optimizer after the last step, as bytes."""
    newest = max((folder / "checkpoints").glob("step-*"))
    assert newest.name == f"step-{STEPS:08d}"
    return {file.name: file.read_bytes() for file in newest.rglob("*.safetensors")}


def events(folder: Path, kind: str) -> list[Any]:
    """Those of a kind, from the file of a run that nothing disturbed."""
    found = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [event for event in found if event["type"] == kind]


def of_training(values: dict[str, float | None]) -> dict[str, float | None]:
    """What a run comes to whenever and wherever it is done: nothing of time, and nothing of the machine."""
    return {key: value for key, value in values.items() if not key.startswith(("timing_s/", "perf/", "system/"))}


def of_machine(values: dict[str, float | None]) -> dict[str, float | None]:
    return {key: value for key, value in values.items() if key.startswith("system/")}
