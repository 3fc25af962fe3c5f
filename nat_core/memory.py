"""Peak memory of an update: allocated bytes on a GPU, resident set of this process on a CPU."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import psutil
import torch

_GIB = 1024**3


class PeakMemory:
    """Highest memory while the block runs, in GiB, as `peak_gib` after it.

    CPU: the kernel's peak resident set (reset on entry where the kernel allows it), above the level at the first block
    of this process. A kernel without that reset leaves the peak since start, which is never too small.
    """

    _cpu_level: ClassVar[int | None] = None

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peak_gib = 0.0

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        if PeakMemory._cpu_level is None:
            PeakMemory._cpu_level = psutil.Process().memory_info().rss
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            self.peak_gib = torch.cuda.max_memory_allocated(self.device) / _GIB
        else:
            self.peak_gib = max(_peak_resident() - (PeakMemory._cpu_level or 0), 0) / _GIB


def _peak_resident() -> int:
    """VmHWM in bytes; the resident set as it is now where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return int(psutil.Process().memory_info().rss)
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kib) * 1024
