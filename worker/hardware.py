"""What this machine is made of, as the workers page shows it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("natlab", "torch", "transformers")


def report() -> dict[str, Any]:
    """CPU, memory, GPUs and versions. Nothing here imports torch."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus(),
        "platform": platform.platform(terse=True),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def gpus(command: str = "nvidia-smi") -> list[dict[str, Any]]:
    """Name and memory of each NVIDIA GPU; none where there is no driver."""
    try:
        printed = subprocess.run(
            [command, "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [_gpu(line) for line in printed.splitlines() if line.count(",") >= 2]


def _gpu(line: str) -> dict[str, Any]:
    index, rest = line.split(",", 1)
    name, memory_mib = rest.rsplit(",", 1)
    memory = memory_mib.strip()
    return {
        "index": int(index),
        "name": name.strip(),
        "memory_gib": round(float(memory) / 1024, 1) if memory.replace(".", "").isdigit() else None,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
