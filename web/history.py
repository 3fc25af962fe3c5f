"""A run's log and events as the pages print them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nat_core.events import AnyEvent
from web.formatting import count, file_size, number, percent, significant

EVENT_TYPES: dict[str, tuple[str, ...]] = {
    "life": ("state", "evaluation", "checkpoint", "log"),
    "state": ("state",),
    "evaluation": ("evaluation",),
    "checkpoint": ("checkpoint",),
    "log": ("log",),
    "metrics": ("metrics",),
    "sample": ("sample",),
}
EVENT_WORDS = {
    "life": "all but metrics and samples",
    "state": "start and end",
    "evaluation": "evaluations",
    "checkpoint": "checkpoints",
    "log": "log lines",
    "metrics": "metrics",
    "sample": "samples",
}
_TONES = {" warning ": "warn", " error ": "bad", "Error": "bad", "Traceback": "bad"}


@dataclass(frozen=True)
class LogLine:
    """A line of the log; `tone` is bad, warn or empty."""

    text: str
    tone: str


@dataclass(frozen=True)
class LogView:
    """The lines that the filter leaves, of all there are."""

    lines: list[LogLine]
    num_lines: int


def log_view(text: str, words: str) -> LogView:
    """Lines that have every word, whatever the case."""
    lines = text.splitlines()
    wanted = words.lower().split()
    kept = [line for line in lines if all(word in line.lower() for word in wanted)]
    return LogView([LogLine(line, _tone(line)) for line in kept], len(lines))


def _tone(line: str) -> str:
    return next((tone for mark, tone in _TONES.items() if mark in line), "")


@dataclass(frozen=True)
class AttemptEvent:
    """An event with the attempt that reported it; its `seq` counts on over attempts, as in the API."""

    attempt: int
    event: AnyEvent


@dataclass(frozen=True)
class EventRow:
    """An event in one line."""

    seq: int
    attempt: int
    time: str
    step: int
    type: str
    words: str


def event_rows(events: Sequence[AttemptEvent]) -> list[EventRow]:
    return [
        EventRow(
            seq=event.seq,
            attempt=found.attempt,
            time=f"{datetime.fromtimestamp(event.time, UTC):%Y-%m-%d %H:%M:%S}",
            step=event.step,
            type=event.type,
            words=_WORDS[event.type](event),
        )
        for found in events
        for event in [found.event]
    ]


def _state(event: Any) -> str:
    if event.phase == "started":
        begun = "started" if event.step == 0 else f"went on from step {event.step}"
        facts = _plain_facts(event.hardware)
        return f"{begun} on {facts}" if facts else begun
    parts = [f"ended: {event.outcome}", event.reason or "", event.message or ""]
    return " · ".join(part for part in parts if part)


def _plain_facts(hardware: Mapping[str, Any] | None) -> str:
    known = hardware or {}
    words = {"device": "", "cpu": "", "torch": "torch "}
    return ", ".join(f"{word}{known[key]}" for key, word in words.items() if known.get(key))


def _evaluation(event: Any) -> str:
    answers = f"accuracy {percent(event.accuracy)} of {event.num_prompts} prompts × {event.num_samples} answers"
    greedy = "" if event.accuracy_greedy is None else f", greedy {percent(event.accuracy_greedy)}"
    sets = "".join(f", {name} {percent(found.accuracy)}" for name, found in event.sets.items())
    return f"{answers}{greedy}{sets}, mean length {number(event.mean_length)}, took {significant(event.seconds)} s"


def _sample(event: Any) -> str:
    return f"{len(event.tokens)} tokens, {sum(event.keep)} kept, reward {number(event.reward, 2)}"


_WORDS: dict[str, Callable[[Any], str]] = {
    "state": _state,
    "evaluation": _evaluation,
    "checkpoint": lambda event: f"{event.path}, {file_size(event.size_bytes)}",
    "log": lambda event: event.message if event.level == "info" else f"{event.level}: {event.message}",
    "metrics": lambda event: f"{count(len(event.values))} values",
    "sample": _sample,
}
