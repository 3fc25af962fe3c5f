"""`natlab train`: one run on this machine, no server; the trainer is a child and its events are the progress."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from client.processes import Child, StopRequested, python_module, stop_signals
from client.show import latest_values, percent, run_progress, set_accuracies
from nat_core.errors import SpecError
from nat_core.events import AnyEvent, EvaluationEvent, LogEvent, MetricsEvent, StateEvent, parse_event
from nat_core.spec import RunSpec

STOP_GRACE_S = 60.0  # a step and a checkpoint may have to be finished
POLL_S = 0.2
PLAIN_LINE_EVERY_S = 15.0


class RunReport:
    """What the events of a run said so far."""

    def __init__(self) -> None:
        self.step = 0
        self.latest: dict[str, float | None] = {}
        self.ended: StateEvent | None = None
        self.tokens_generated = 0.0
        self.tokens_selected = 0.0

    def add(self, event: AnyEvent) -> None:
        self.step = max(self.step, event.step)
        if isinstance(event, MetricsEvent):
            self.latest |= event.values
            self.tokens_generated += event.values.get("tokens/generated") or 0
            self.tokens_selected += event.values.get("tokens/selected") or 0
        elif isinstance(event, EvaluationEvent):
            self.latest |= event.metric_values()
        elif isinstance(event, StateEvent) and event.phase == "ended":
            self.ended = event

    @property
    def outcome(self) -> str:
        return self.ended.outcome if self.ended is not None and self.ended.outcome else "failed"

    def as_json(self, seconds: float, output: Path) -> dict[str, Any]:
        """How it ended, for programs."""
        return {
            "outcome": self.outcome,
            "reason": self.ended.reason if self.ended is not None else None,
            "message": self.ended.message if self.ended is not None else None,
            "step": self.step,
            "latest": self.latest,
            "tokens_generated": self.tokens_generated,
            "tokens_selected": self.tokens_selected,
            "seconds": seconds,
            "output": str(output),
        }

    def summary(self, seconds: float, output: Path) -> str:
        """One line: how it ended, accuracy, tokens, time, and where the run lies."""
        accuracy = f"accuracy {percent(self.latest.get('eval/accuracy'))}"
        sets = [f"{name} {percent(value)}" for name, value in set_accuracies(self.latest).items()]
        parts = [f"{self.outcome} at step {self.step}", ", ".join([accuracy, *sets])]
        if self.tokens_generated:
            share = percent(self.tokens_selected / self.tokens_generated, 0)
            parts.append(f"trained on {self.tokens_selected:,.0f} of {self.tokens_generated:,.0f} tokens ({share})")
        return f"{' · '.join(parts)} · {seconds:.0f} s · {output}"


def train(spec: RunSpec, output: Path, out: Console, err: Console, as_json: bool = False) -> int:
    """Train `spec` into the folder `output`, showing progress on `out`.

    With `as_json` progress goes to `err`, and how it ended to `out` as JSON. Ctrl-C and SIGTERM let the trainer save a
    checkpoint; asked again, it is killed.

    Returns:
        The trainer's exit status, or 128 + the signal that ended it or this command.

    Raises:
        SpecError: when `output` already holds a run or cannot be written.
    """
    _prepare(output, spec)
    argv = python_module("nat_core", str(output / "spec.json"), "--output", str(output), "--supervised")
    report, tail, started = RunReport(), EventTail(output / "events.jsonl"), time.monotonic()
    signum = 0
    with stop_signals() as hurried:
        # The trainer ends when its stdin closes, so that it cannot outlive this command.
        trainer = Child("trainer", argv, output / "trainer.log", stdin=subprocess.PIPE)
        try:
            with _Display(spec, err if as_json else out, report) as display:
                _follow(tail, trainer, report, display)
        except StopRequested as stop:
            signum = stop.signum
            err.print("Stopping: a checkpoint is saved first …")
        finally:
            trainer.stop(STOP_GRACE_S, hurried)
    for event in tail.read():
        report.add(event)
    _explain(report, trainer, err, asked=signum != 0)
    seconds = time.monotonic() - started
    if as_json:
        out.print_json(data=report.as_json(seconds, output))
    else:
        out.print(report.summary(seconds, output), markup=False, highlight=False, soft_wrap=True)
    status = 128 + signum if signum else trainer.process.returncode
    return status if status >= 0 else 128 - status


def _follow(tail: EventTail, trainer: Child, report: RunReport, display: _Display) -> None:
    """Show events until the trainer has ended and everything it wrote is read."""
    while True:
        running = trainer.is_running()  # asked before reading, so that the last lines are not missed
        for event in tail.read():
            report.add(event)
            display.show(event)
        if not running:
            return
        time.sleep(POLL_S)


def _explain(report: RunReport, trainer: Child, err: Console, asked: bool) -> None:
    """Say why a run failed; a trainer that died without a word has its last lines shown."""
    if report.ended is not None and report.ended.outcome == "failed":
        lines = [report.ended.message or report.ended.reason or "the run failed"]
    elif report.ended is None and not asked:
        lines = trainer.last_lines()
    else:
        lines = []
    for line in lines:
        err.print(line, markup=False, highlight=False, soft_wrap=True)


class EventTail:
    """Reads a growing `events.jsonl`, whole lines at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0

    def read(self) -> list[AnyEvent]:
        """Events appended since the last call; an unfinished line waits for the next one."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        return [parse_event(line) for line in whole.splitlines()]


def _prepare(output: Path, spec: RunSpec) -> None:
    if (output / "events.jsonl").exists():
        raise SpecError(f"--output {output} already holds a run; choose another folder or remove it")
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "spec.json").write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise SpecError(f"--output {output} cannot be written ({error.strerror}); choose another folder") from None


class _Display:
    """A run's progress: a bar on a terminal, now and then a line elsewhere."""

    def __init__(self, spec: RunSpec, console: Console, report: RunReport) -> None:
        self.console, self.report, self.steps = console, report, spec.steps
        self.bars = run_progress(console) if console.is_terminal else None
        self.told_at = 0.0
        if self.bars is not None:
            self.task = self.bars.add_task(spec.budget.label, total=spec.steps, values="", state="")

    def __enter__(self) -> _Display:
        if self.bars is not None:
            self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def show(self, event: AnyEvent) -> None:
        values = latest_values(self.report.latest)
        if isinstance(event, LogEvent) and event.level != "info":
            self._print(event.message)
        elif self.bars is not None:
            self.bars.update(self.task, completed=self.report.step, values=values)
        elif isinstance(event, EvaluationEvent) or time.monotonic() - self.told_at > PLAIN_LINE_EVERY_S:
            self.told_at = time.monotonic()
            self._print(f"step {self.report.step}/{self.steps}  {values}".rstrip())

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
