"""The orchestrator benchmark's cases that train: how soon a launched run trains, and what telling of it costs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.orchestrator_load import step_metrics, wait_until
from client.api import NatLab
from client.up import Settings, Stack
from nat_core.events import MetricsEvent
from nat_core.reporter import Reporter
from nat_core.spec import ExperimentSpec, FullBudget, demo_experiment

_LOOK_S = 0.2


@dataclass(frozen=True)
class Launch:
    """Seconds from the request until it is claimed, its trainer runs, its first step is told; and what a step takes."""

    claimed_s: float
    started_s: float
    first_step_s: float
    step_s: float


@contextmanager
def running_stack() -> Iterator[tuple[Stack, NatLab, Path]]:
    """The whole stack as `natlab up` starts it, a client of it, and where its runs lie."""
    with tempfile.TemporaryDirectory(prefix="nlb") as folder:
        home = Path(folder) / "home"
        with Stack(Settings(home, "127.0.0.1", _free_port(), None)) as stack, stack.connect() as lab:
            yield stack, lab, home


def launches(times: int) -> dict[str, Any]:
    """How soon a launched run trains, on a worker that waits: with its spare trainer ready, and straight after a run.

    The demo model and its step, with one prompt for the evaluation that a run begins with.
    """
    warm, busy = [], []
    with running_stack() as (stack, lab, home):
        for _ in range(times):
            wait_until(lambda: _is_warm(stack))
            warm.append(_launch(lab, home))
            busy.append(_launch(lab, home))
    return {
        "times": times,
        "launches": [asdict(launch) for launch in warm],
        "median_s": statistics.median(launch.first_step_s for launch in warm),
        "slowest_s": max(launch.first_step_s for launch in warm),
        "straight_after": [asdict(launch) for launch in busy],
        "straight_after_s": max(launch.first_step_s for launch in busy),
        "step_s": statistics.median(launch.step_s for launch in warm + busy),
    }


def reporting(events: int) -> float:
    """Milliseconds that a trainer takes to report a step: an event, written to its file."""
    with tempfile.TemporaryDirectory(prefix="nlb") as folder:
        reporter, values = Reporter(Path(folder) / "events.jsonl"), step_metrics(1).values
        began = time.perf_counter()
        for _ in range(events):
            reporter.emit(MetricsEvent, values=values)
        took = time.perf_counter() - began
        reporter.close()
    return 1e3 * took / events


def streaming(pairs: int, steps: int, threads: int) -> dict[str, Any]:
    """What streaming adds to a step: the same run launched on a stack, and trained beside that stack, which then rests.

    Both do the same steps, on as many threads, by turns. So the ratio of a step's time with worker, Redis,
    ingest and heartbeats to its time without them is that of the same work. And what those processes compute during the
    one, less what they compute at rest during the other, as a share of the machine, is what streaming takes from it.
    """
    ratios: list[float] = []
    shares: list[float] = []
    at_rest: list[float] = []
    with running_stack() as (stack, lab, home):
        for pair in range(pairs):
            turns = {}
            for streamed in (pair % 2 == 0, pair % 2 == 1):
                wait_until(lambda: _is_warm(stack))  # else the next trainer loads beside this one
                turns[streamed] = (_streamed if streamed else _alone)(
                    stack, lab, home, _spec(steps, num_threads=threads)
                )
            with_it, without = turns[True], turns[False]
            ratios += [a / b for a, b in zip(with_it.steps_s, without.steps_s, strict=True)]
            at_rest.append(without.stack_share)
            shares.append(with_it.stack_share - without.stack_share)
    low, high = median_interval(ratios)
    return {
        "pairs": pairs,
        "steps": len(ratios),
        "threads": threads,
        "added": statistics.median(ratios) - 1,
        "added_low": low - 1,
        "added_high": high - 1,
        "processor_share": statistics.median(shares),
        "at_rest": statistics.median(at_rest),
    }


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Two of the values between which the median of what they are drawn from lies, at about 95%; by counting alone."""
    ordered = sorted(values)
    outside = max(0, int(len(ordered) / 2 - 0.98 * len(ordered) ** 0.5))
    return ordered[outside], ordered[-1 - outside]


@dataclass(frozen=True)
class Training:
    """The steps of a run from its second on, and the processor time of the stack's processes during them."""

    steps_s: list[float]
    stack_cpu_s: float

    @property
    def stack_share(self) -> float:
        """Of the machine's processor time."""
        return self.stack_cpu_s / sum(self.steps_s) / (os.cpu_count() or 1)


def _spec(steps: int, **resources: Any) -> ExperimentSpec:
    """The demo's own step; with next to no evaluation before it."""
    demo = demo_experiment(steps=steps)
    least = demo.base.evaluation.model_copy(update={"every": 0, "num_prompts": 1, "num_samples": 1, "greedy": False})
    more = {"evaluation": least, "resources": demo.base.resources.model_copy(update=resources)}
    return demo.model_copy(
        update={"name": "Bench", "base": demo.base.model_copy(update=more), "budgets": [FullBudget()]}
    )


def _launch(lab: NatLab, home: Path) -> Launch:
    began = time.time()
    (run,) = lab.launch(_spec(steps=3)).runs
    lab.wait(run.experiment_id)
    claimed = lab.run(run.id).attempts[0].claimed_at.timestamp()
    told = _events(home / "runs" / run.id)
    steps = [event for event in told if event["type"] == "metrics"]
    return Launch(
        claimed_s=claimed - began,
        started_s=next(event["time"] for event in told if event["type"] == "state") - began,
        first_step_s=steps[0]["time"] - began,
        step_s=statistics.median(event["values"]["timing_s/step"] for event in steps),
    )


def _streamed(stack: Stack, lab: NatLab, home: Path, spec: ExperimentSpec) -> Training:
    """Train by the worker. Nobody asks the server meanwhile: what it does is for the run."""
    (run,) = lab.launch(spec).runs
    used = _cpu_s_during(stack, home / "runs" / run.id, spec.base.steps)
    lab.wait(run.experiment_id)
    return Training(_durations(home / "runs" / run.id), used)


def _alone(stack: Stack, lab: NatLab, home: Path, spec: ExperimentSpec) -> Training:
    """The same run by a trainer that nobody listens to, while the stack has nothing to do."""
    with tempfile.TemporaryDirectory(prefix="alone-", dir=home) as name:
        folder = Path(name)
        (folder / "spec.json").write_text(spec.expand()[0].model_dump_json())
        argv = [sys.executable, "-m", "nat_core", str(folder / "spec.json"), "--output", name]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            used = _cpu_s_during(stack, folder, spec.base.steps)
            process.wait(60)
        return Training(_durations(folder), used)


def _cpu_s_during(stack: Stack, folder: Path, steps: int) -> float:
    """Processor time of the stack from the first step told in this folder until the last."""
    wait_until(lambda: len(_step_times(folder)) >= 1, every_s=_LOOK_S)
    before = _cpu_s(stack)
    wait_until(lambda: len(_step_times(folder)) >= steps, every_s=_LOOK_S)
    return _cpu_s(stack) - before


def _is_warm(stack: Stack) -> bool:
    """Whether a trainer waits for the next run, all that it needs being loaded."""
    worker = next(child for child in stack.children if child.name == "worker")
    for child in psutil.Process(worker.process.pid).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if child.cmdline()[2:4] == ["nat_core.spare", "waiting"]:
                return True
    return False


def _cpu_s(stack: Stack) -> float:
    """Processor time so far of server, worker and Valkey; trainers, which are children of the worker, left out."""
    times = [psutil.Process(child.process.pid).cpu_times() for child in stack.children]
    return sum(one.user + one.system for one in times)


def _events(folder: Path) -> list[dict[str, Any]]:
    try:
        text = (folder / "events.jsonl").read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _step_times(folder: Path) -> list[float]:
    """When each step was told."""
    return [event["time"] for event in _events(folder) if event["type"] == "metrics"]


def _durations(folder: Path) -> list[float]:
    times = _step_times(folder)
    return [after - before for before, after in itertools.pairwise(times)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
