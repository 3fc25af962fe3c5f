"""What a trainer takes of its machine while it trains: sampled beside it, told with the steps that it reports.

The trainer alone numbers its events, so that a sample cannot be one of its own. The relay adds the samples of a
step to that step's metrics as they pass by, and keeps them for when they have to be sent again.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import psutil

from nat_core.events import AnyEvent, MetricsEvent
from worker.usage_log import UsageLog, with_values

EVERY_S = 5.0
_GIB = 2**30
_MOST = 10_000  # samples that wait for the end of their step: fourteen hours of them
_HIGHEST = ("system/memory_gib", "system/host_memory_gib", "system/gpu_memory_gib")
"""Of these a step's highest sample is told, of the others the mean."""

Values = dict[str, float]


class Usage:
    """One trainer's samples, each told with one step. Use as a context manager: it samples in a thread of its own."""

    def __init__(self, sample: Callable[[], Mapping[str, float]], kept: UsageLog, every_s: float = EVERY_S) -> None:
        self._sample = sample
        self._kept = kept
        self._every_s = every_s
        self._waiting: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=_MOST)
        self._told = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def __enter__(self) -> Usage:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()

    def _run(self) -> None:
        while True:
            try:
                values = self._sample()
            except (psutil.Error, OSError):
                return  # the trainer is gone, or this machine does not tell
            if values:
                self._waiting.append((time.time(), values))
            if self._over.wait(self._every_s):
                return

    def told(self, events: Sequence[AnyEvent]) -> list[AnyEvent]:
        """The same events; each step's metrics with what was sampled since the step before, if anything was."""
        return [self._with_samples(event) for event in events]

    def _with_samples(self, event: AnyEvent) -> AnyEvent:
        if not isinstance(event, MetricsEvent) or event.seq <= self._told:
            return self._kept.with_kept(event)
        self._told = event.seq
        values = self._until(event.time)
        if values:
            self._kept.keep(event.seq, values)
        return with_values(event, values)

    def _until(self, moment: float) -> Values:
        """What the samples up to a moment come to; they are not told again."""
        found: dict[str, list[float]] = {}
        while self._waiting and self._waiting[0][0] <= moment:
            for key, value in self._waiting.popleft()[1].items():
                found.setdefault(key, []).append(value)
        return {key: max(values) if key in _HIGHEST else fmean(values) for key, values in found.items()}


class Meter:
    """Reads what a process with all its children takes, and how busy its machine is. The first reading lacks rates."""

    def __init__(self, pid: int, gpus: Sequence[int] = (), driver: str = "nvidia-smi") -> None:
        self._pid = pid
        self._gpus = list(gpus)
        self._driver = driver
        self._before: tuple[float, float] | None = None

    def __call__(self) -> Values:
        return {**self._host(), **self._trainer(), **self._on_gpus()}

    def _trainer(self) -> Values:
        process = psutil.Process(self._pid)
        cpu_s, resident = _cpu_s(process, ended_children=True), process.memory_info().rss
        for child in process.children(recursive=True):
            try:
                cpu_s, resident = cpu_s + _cpu_s(child), resident + child.memory_info().rss
            except psutil.Error:
                continue  # it has just ended, and is among its parent's ended children at the next reading
        now, before = time.monotonic(), self._before
        self._before = (now, cpu_s)
        values = {"system/memory_gib": resident / _GIB}
        if before is not None and now > before[0]:
            values["system/cpu_cores"] = max(0.0, (cpu_s - before[1]) / (now - before[0]))
        return values

    def _host(self) -> Values:
        memory = psutil.virtual_memory()
        values = {"system/host_memory_gib": (memory.total - memory.available) / _GIB}
        busy = psutil.cpu_percent(interval=None)  # since it was asked last, so that the first answer says nothing
        return values | ({} if self._before is None else {"system/host_cpu": busy / 100})

    def _on_gpus(self) -> Values:
        if not self._gpus:
            return {}
        asked = f"--id={','.join(map(str, self._gpus))}"
        query = [self._driver, asked, "--query-gpu=utilization.gpu,memory.used,power.draw"]
        try:
            printed = subprocess.run(
                [*query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=10, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            self._gpus = []  # a driver that does not answer is not asked at every sample
            return {}
        columns = [[_number(part) for part in line.split(",")] for line in printed.splitlines() if line.count(",") == 2]
        if not columns:
            return {}
        busy, memory, power = ([n for n in column if n is not None] for column in zip(*columns, strict=True))
        return {
            **({"system/gpu": fmean(busy) / 100} if busy else {}),
            **({"system/gpu_memory_gib": max(memory) / 1024} if memory else {}),
            **({"system/gpu_power_w": sum(power)} if power else {}),
        }


def _cpu_s(process: psutil.Process, ended_children: bool = False) -> float:
    times = process.cpu_times()
    own = times.user + times.system
    return float(own + times.children_user + times.children_system if ended_children else own)


def _number(text: str) -> float | None:
    """What the driver says of a size; None for its `[N/A]`."""
    try:
        return float(text)
    except ValueError:
        return None
