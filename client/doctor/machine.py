"""What this machine has: Python, torch and its GPU, vLLM, memory, disk, and natlab's own data folder."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from client.address import default_home
from client.doctor.finding import Finding, bad, note, ok, warning
from client.doctor.packages import requirements
from client.plan import machine_memory_gib
from nat_core.version import __version__

OLDEST_PYTHON = (3, 11)
_GIB = 2**30
_LEAST_DISK_GIB = 1.0
_LITTLE_DISK_GIB = 10.0
_LITTLE_MEMORY_GIB = 4.0
_TORCH_WITHIN_S = 120.0
# In a process of its own: this one must stay without torch, and a broken torch may take its process along.
_ASK_TORCH = """
import json, torch
gpu = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if gpu else []
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": names}))
"""


def check_natlab() -> Finding:
    return ok("natlab", f"{__version__} in {Path(__file__).parents[2]}")


def check_python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return bad("Python", found, f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, and natlab with it")
    return ok("Python", found)


def check_system() -> Finding:
    found = f"{platform.system()} {platform.release()} on {platform.machine()}, {os.cpu_count()} cores"
    if sys.platform != "linux":
        return warning(
            "system", found, "train on Linux: elsewhere a worker killed with -9 may leave its trainer running"
        )
    return ok("system", found)


def check_torch() -> Finding:
    """Whether torch starts, and whether it sees the GPU that the machine has."""
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _ASK_TORCH], capture_output=True, text=True, timeout=_TORCH_WITHIN_S
        )
    except subprocess.TimeoutExpired:
        return bad("torch", f"does not start within {_TORCH_WITHIN_S:g} s", "look at the GPU's driver with nvidia-smi")
    if asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return bad("torch", f"does not start: {last}", "pip install 'natlab[trainer]'")
    told = json.loads(asked.stdout)
    built = f"built for CUDA {told['cuda']}" if told["cuda"] else "built for the CPU"
    found = f"{told['version']}, {built}, " + (f"on {', '.join(told['gpus'])}" if told["gpus"] else "no GPU in use")
    if told["gpus"]:
        return ok("torch", found)
    gpu = _nvidia_gpu()
    if gpu is not None:
        remedy = "install a torch that is built for CUDA" if not told["cuda"] else "update the driver to fit that CUDA"
        return bad("torch", f"{found}, but there is a {gpu}", f"{remedy} (https://pytorch.org/get-started/locally)")
    return note("torch", found, "training runs on the CPU: right for the demo, slow for larger models")


def _nvidia_gpu() -> str | None:
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return names[0] if names else None


def check_vllm() -> Finding:
    """Runs that do not ask for it need none; those that do need one whose seams are known here."""
    try:
        version = metadata.version("vllm")
    except metadata.PackageNotFoundError:
        found = "not installed; completions are sampled by the trainer itself"
        return note("vLLM", found, "for rollout.engine: vllm, on a GPU: pip install 'natlab[vllm]'")
    wanted = [one for one in requirements() if one.name == "vllm"]
    if all(one.is_met_by(version) for one in wanted):
        return ok("vLLM", version)
    return warning(
        "vLLM", f"{version}, not {wanted[0]}; runs with rollout.engine: vllm may fail", "pip install 'natlab[vllm]'"
    )


def check_memory() -> Finding:
    gib = machine_memory_gib()
    found = f"{gib:.1f} GiB for training"
    if gib < _LITTLE_MEMORY_GIB:
        return warning("memory", found, "enough for the demo; `natlab plan FILE` says what another run needs")
    return ok("memory", found)


def check_home() -> Finding:
    """Whether the data folder can be written, has room, and keeps its token to its owner."""
    home = default_home().absolute()
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return bad("data folder", f"{home} cannot be written", "set NATLAB_HOME to a folder of your own")
    free = shutil.disk_usage(there).free / _GIB
    found = f"{home}{'' if home == there else ' (not made yet)'}, {free:.1f} GiB free"
    if free < _LEAST_DISK_GIB:
        return bad(
            "data folder", found, "free some space, with `natlab gc` for one, or set NATLAB_HOME to another disk"
        )
    token = home / "token"
    if token.exists() and token.stat().st_mode & 0o077:
        return bad("data folder", f"{found}; others may read {token}", f"chmod 600 {token}")
    if free < _LITTLE_DISK_GIB:
        return warning("data folder", found, "checkpoints of larger models need more; `natlab gc` gives space back")
    return ok("data folder", found)


def check_sqlite() -> Finding:
    return ok("SQLite", sqlite3.sqlite_version)
