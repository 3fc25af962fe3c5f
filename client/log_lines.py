"""A run's events as lines for people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from client.reported import EventType
from client.show import percent
from nat_core.events import AnyEvent, CheckpointEvent, EvaluationEvent, LogEvent, StateEvent

LOGGED: tuple[EventType, ...] = ("log", "evaluation", "checkpoint", "state")
"""The events that make a log; steps and samples are for charts."""


def log_line(event: AnyEvent) -> str:
    """`2026-01-02 03:04:05 info    step 20  accuracy 62.5%`: UTC, level, step, what happened."""
    level, words = _WORDS[type(event)](event)
    words = "".join(char if char.isprintable() else " " for char in words)
    return f"{datetime.fromtimestamp(event.time, UTC):%Y-%m-%d %H:%M:%S} {level:7} step {event.step}  {words}"


def _of_log(event: LogEvent) -> tuple[str, str]:
    return event.level, event.message


def _of_evaluation(event: EvaluationEvent) -> tuple[str, str]:
    greedy = "" if event.accuracy_greedy is None else f", greedy {percent(event.accuracy_greedy)}"
    sets = "".join(f", {name} {percent(found.accuracy)}" for name, found in event.sets.items())
    return "info", f"accuracy {percent(event.accuracy)}{greedy} on {event.num_prompts} prompts{sets}"


def _of_checkpoint(event: CheckpointEvent) -> tuple[str, str]:
    return "info", f"checkpoint {event.path} is saved ({event.size_bytes / 2**20:.1f} MiB)"


def _of_state(event: StateEvent) -> tuple[str, str]:
    if event.phase == "started":
        return "info", "the trainer started"
    why = ": ".join(part for part in (event.reason, event.message) if part)
    return ("error" if event.outcome == "failed" else "info"), f"the trainer ended: {event.outcome}" + (
        f": {why}" if why else ""
    )


_WORDS: dict[type[Any], Callable[[Any], tuple[str, str]]] = {
    LogEvent: _of_log,
    EvaluationEvent: _of_evaluation,
    CheckpointEvent: _of_checkpoint,
    StateEvent: _of_state,
}
