"""`nat_core.spare` as a worker uses it: a message with descriptors comes in, a trainer comes out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from nat_core import spare
from nat_core.loading import LATER

PROGRAM = """
import ctypes, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
from nat_core.spare import main

def load():
    {load}

def train(arguments):
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_char_p
    print(arguments, library.getenv(b"CUDA_VISIBLE_DEVICES").decode(), [s.name for s in signal.sigpending()])
    return 7

sys.exit(main(load, train))
"""

SLOW_LOAD = "signal.sigwait({signal.SIGUSR1})"
"""It takes until the test sends SIGUSR1."""


@dataclass
class Waiting:
    """A spare with the worker's end of its line."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    log: Path

    def once(self, state: str) -> Waiting:
        """Itself, once it says so in its arguments."""
        while psutil.Process(self.process.pid).cmdline()[2:4] != ["nat_core.spare", state]:
            assert self.process.poll() is None
        return self

    def give(self, *arguments: str) -> None:
        message = {"arguments": list(arguments), "environment": {"CUDA_VISIBLE_DEVICES": "3"}}
        with self.log.open("ab") as log:
            socket.send_fds(self.line, [json.dumps(message).encode()], [log.fileno()])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Waiting]]:
    started: list[Waiting] = []

    def start(load: str = "pass", room: int = 4096) -> Waiting:
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [sys.executable, "-c", PROGRAM.replace("{load}", load), "-" * room]
        with theirs:
            process = subprocess.Popen(argv, stdin=theirs)
        started.append(Waiting(process, line, tmp_path / "trainer.log"))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        one.line.close()


def test_spare_trains_with_the_arguments_and_gpus_that_come(start: Callable[..., Waiting]) -> None:
    waiting = start().once("waiting")
    waiting.give("spec.json", "--output", "run")
    assert waiting.process.wait(20) == 7
    assert waiting.log.read_text() == "['spec.json', '--output', 'run'] 3 []\n"  # as CUDA asks for it, by getenv


def test_spare_ends_quietly_when_nobody_needs_it_any_more(start: Callable[..., Waiting]) -> None:
    waiting = start().once("waiting")
    waiting.line.close()
    assert waiting.process.wait(20) == 0


def test_spare_that_waits_can_be_ended_by_hand(start: Callable[..., Waiting]) -> None:
    waiting = start().once("waiting")
    waiting.process.terminate()
    assert waiting.process.wait(20) == -signal.SIGTERM


def test_signal_to_end_while_it_loads_is_for_the_run_that_has_come(start: Callable[..., Waiting]) -> None:
    waiting = start(SLOW_LOAD).once("loading")
    waiting.give("spec.json")
    waiting.process.terminate()
    waiting.process.send_signal(signal.SIGUSR1)
    assert waiting.process.wait(20) == 7
    assert waiting.log.read_text() == "['spec.json'] 3 ['SIGTERM']\n"


def test_signal_to_end_while_it_loads_ends_one_that_nobody_needs(start: Callable[..., Waiting]) -> None:
    waiting = start(SLOW_LOAD).once("loading")
    waiting.process.terminate()
    waiting.process.send_signal(signal.SIGUSR1)
    assert waiting.process.wait(20) == -signal.SIGTERM


@pytest.mark.parametrize(
    "load",
    ["raise ImportError('torch is broken')", "import nat_core.spare as s; s._GPU_DEVICES = ('socket:',)"],
    ids=["that cannot load", "that used a GPU"],
)
def test_spare_starts_over_with_its_run(start: Callable[..., Waiting], tmp_path: Path, load: str) -> None:
    waiting = start(load).once("waiting")
    waiting.give(str(tmp_path / "spec.json"), "--output", str(tmp_path / "run"))
    assert waiting.process.wait(20) == 2  # the trainer's own word for a spec that is not there
    assert str(tmp_path / "spec.json") in waiting.log.read_text()
    assert "['" not in waiting.log.read_text()


def test_open_files_tell_whether_a_gpu_was_used(tmp_path: Path) -> None:
    assert not spare.holds(spare._GPU_DEVICES)
    with (tmp_path / "device").open("w"):
        assert spare.holds(("/dev/none", str(tmp_path / "dev")))
    assert not spare.holds((str(tmp_path / "dev"),))


def argv_of(room: int, expression: str) -> list[str]:
    """The arguments that others see of a process that started with so much room and shows these."""
    program = f"import sys; from nat_core.spare import show_arguments; show_arguments({expression}); print(flush=True)"
    argv = [sys.executable, "-c", f"{program}; sys.stdin.read()", "-" * room]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return psutil.Process(process.pid).cmdline()


def test_process_shows_other_arguments_where_there_is_room() -> None:
    shown = argv_of(1000, '["nat_core", "/home/ü/spec.json"]')
    assert shown[:4] == [sys.executable, "-m", "nat_core", "/home/ü/spec.json"] and not any(shown[4:])


def test_process_keeps_its_arguments_where_there_is_none() -> None:
    assert argv_of(1000, '["x" * 5000]')[-1] == "-" * 1000


LOADED = """
import json, sys, torch
asked, own = [], getattr(torch._C, "_cuda_getDeviceCount", None)
torch._C._cuda_getDeviceCount = lambda: asked.append(1) or 0  # every use of CUDA begins with it
if own is None:  # what else a build for CUDA has and is imported by name
    torch._C._cuda_getCurrentRawStream = lambda device: 0
from nat_core.loading import load_ahead
load_ahead()
asked_while_loading = len(asked)
assert not torch.cuda.is_available() and asked
del torch._C._cuda_getDeviceCount
if own is not None:
    torch._C._cuda_getDeviceCount = own
before = set(sys.modules)
from nat_core.__main__ import main
status = main(sys.argv[1:])
print(json.dumps([asked_while_loading, status, sorted(set(sys.modules) - before)]))
"""


@pytest.mark.slow
def test_loading_ahead_is_loading_all_and_asks_nothing_of_cuda(tmp_path: Path) -> None:
    """What an optimizer step of the demo model imports is there; how many GPUs there are is not asked."""
    spec = {
        "rollout": {"num_prompts": 2, "num_generations": 4, "max_completion_length": 24},
        "evaluation": {"num_prompts": 2, "num_samples": 2, "greedy": False, "every": 0},
        "resources": {"num_threads": 1},
        "steps": 1,
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    argv = [sys.executable, "-c", LOADED, str(tmp_path / "spec.json"), "--output", str(tmp_path / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    asked, status, imported = json.loads(done.stdout.splitlines()[-1])
    assert (asked, status) == (0, 0), done.stderr
    late = [name for name in imported if name.split(".")[0] in ("torch", "transformers", "nat_core")]
    assert len(late) <= 5, late
    assert "torch._dynamo" in LATER
