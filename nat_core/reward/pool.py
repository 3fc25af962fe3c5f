"""Scoring in processes of their own, one sample at a time each, with a time limit for each sample.

A process that takes too long is killed, which holds for whatever it is busy with; limits by signals
would not reach a loop in C, and only the main thread.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from nat_core.errors import RewardError, SpecError
from nat_core.reward.sample import Sample, Verdict
from nat_core.spec import SingleReward

_START_S = 300.0  # to import sympy on a machine that is busy
_MOST = 4
_TICK_S = 0.5  # how often whoever waits for scores is heard


class Pool:
    """Processes that score with one reward, started when there is something to score."""

    def __init__(
        self,
        spec: SingleReward,
        timeout_s: float,
        num_processes: int | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Args:
        between: called every now and then while samples are scored; may raise.
        """
        self._spec, self._timeout_s, self._between = spec, timeout_s, between
        self._most = num_processes or min(_MOST, len(os.sched_getaffinity(0)))
        self._processes: list[_Process] = []

    def score(self, samples: Sequence[Sample]) -> list[Verdict | None]:
        """Verdicts in the samples' order; None where the time was not enough.

        Raises:
            RewardError: the verifier raised, or its process fell over; the sample is named.
            SpecError: the verifier cannot be built.
        """
        try:
            return self._score(samples)
        except BaseException:
            self.close()  # whatever is still being scored is no longer wanted
            raise

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.end()
        self._processes = []

    def _score(self, samples: Sequence[Sample]) -> list[Verdict | None]:
        verdicts: dict[int, Verdict | None] = {}
        waiting = deque(range(len(samples)))
        while len(verdicts) < len(samples):
            self._between()
            self._fill(len(samples) - len(verdicts))
            for process in self._processes:
                if process.is_idle and waiting:
                    index = waiting.popleft()
                    process.send(index, samples[index], self._timeout_s)
            for process in self._answered():
                for index, verdict in process.receive(samples):
                    verdicts[index] = verdict
            for process in [process for process in self._processes if process.is_late]:
                verdicts[process.give_up(samples)] = None
                self._processes.remove(process)
        return [verdicts[index] for index in range(len(samples))]

    def _fill(self, wanted: int) -> None:
        while len(self._processes) < min(self._most, wanted):
            self._processes.append(_Process(self._spec))

    def _answered(self) -> list[_Process]:
        """Processes with something to read, after waiting for one for a moment, or until a time limit ends."""
        busy = [process for process in self._processes if process.deadline is not None]
        until = min(process.deadline for process in busy if process.deadline is not None)
        with selectors.DefaultSelector() as selector:
            for process in busy:
                selector.register(process.output, selectors.EVENT_READ, process)
            return [key.data for key, _ in selector.select(min(max(0.0, until - time.monotonic()), _TICK_S))]


class _Process:
    """One process: starting, then idle or busy with a sample until a deadline."""

    def __init__(self, spec: SingleReward) -> None:
        path = os.pathsep.join(part or os.getcwd() for part in sys.path)  # a reward lies where this process finds it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nat_core.reward.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self.output = self._process.stdin, self._process.stdout
        self._buffer = b""
        self._index: int | None = None
        self.deadline: float | None = time.monotonic() + _START_S
        self._write(spec.model_dump_json().encode())

    @property
    def is_idle(self) -> bool:
        return self.deadline is None

    @property
    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def send(self, index: int, sample: Sample, timeout_s: float) -> None:
        self._index = index
        self._write(json.dumps(asdict(sample)).encode())
        self.deadline = time.monotonic() + timeout_s

    def receive(self, samples: Sequence[Sample]) -> list[tuple[int, Verdict]]:
        """What it has answered: nothing where it only got ready, or is still in the middle of a line."""
        chunk = os.read(self.output.fileno(), 65_536)
        if not chunk:
            raise RewardError(f"the reward's process ended with status {self._process.wait()}{self._at(samples)}")
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        found = []
        for line in lines:
            verdict = self._read(json.loads(line), samples)
            if verdict is not None and self._index is not None:
                found.append((self._index, verdict))
            self._index, self.deadline = None, None
        return found

    def give_up(self, samples: Sequence[Sample]) -> int:
        """End it; returns the index of the sample that took too long."""
        self.end()
        if self._index is None:
            raise RewardError(f"the reward's process was not ready after {_START_S:g} s; see the trainer's log")
        return self._index

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._input.close()
        self.output.close()

    def _read(self, message: dict[str, Any], samples: Sequence[Sample]) -> Verdict | None:
        if "refused" in message:
            raise SpecError.at(message["pointer"], message["refused"])
        if "error" in message:
            raise RewardError(f"the reward raised {message['error']}{self._at(samples)}")
        return Verdict(message["reward"], message["answer"]) if "reward" in message else None

    def _at(self, samples: Sequence[Sample]) -> str:
        return "" if self._index is None else f"; it was scoring {samples[self._index]}"

    def _write(self, line: bytes) -> None:
        try:
            self._input.write(line + b"\n")
            self._input.flush()
        except BrokenPipeError:
            pass  # it has ended, which reading from it tells with its status
