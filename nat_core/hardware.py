"""What a run ran on: times compare only where this agrees."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

from nat_core.version import __version__


def describe(device: torch.device) -> dict[str, Any]:
    """Device, processor, threads, versions, and how many other natlab trainers run beside this one."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "neighbours": _other_trainers(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "natlab": __version__,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _other_trainers() -> int:
    own = {os.getpid()}
    if "RANK" in os.environ:  # this run's other ranks, and what started them
        parent = psutil.Process().parent()
        own |= {parent.pid, *(child.pid for child in parent.children())} if parent else set()
    count = 0
    for process in psutil.process_iter(["pid", "cmdline"]):
        argv = process.info["cmdline"] or []
        if process.info["pid"] not in own and "-m" in argv and "nat_core" in argv:
            count += 1
    return count
