"""The seam between a run's events and a tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nat_core.events import AnyEvent, EvaluationEvent, MetricsEvent


@dataclass(frozen=True)
class RunInfo:
    """What a tool shows of a run beside its curves."""

    id: str
    name: str
    group: str = ""
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def flat_config(self) -> dict[str, str | int | float | bool]:
        """The spec by dotted field, as tools that know no nesting want it."""
        return dict(_flattened(self.config))


class Sink(Protocol):
    """One tool. `begin`, then `write` in order of steps, then `end`."""

    def begin(self, run: RunInfo) -> None:
        """Make the run there. Raises `ClientError` when it is there already: nothing is sent twice or replaced."""

    def write(self, values: Mapping[str, float], step: int, time: float) -> None:
        """Values of one step, reported at a Unix time."""

    def end(self, outcome: str) -> None:
        """Everything is written: `succeeded`, `stopped` or `failed`."""


def values_of(event: AnyEvent) -> dict[str, float]:
    """The numbers that an event carries; what was not finite is left out."""
    if isinstance(event, MetricsEvent):
        return {key: value for key, value in event.values.items() if value is not None}
    if isinstance(event, EvaluationEvent):
        return event.metric_values()  # those of named sets, and the ends of intervals, too
    return {}


def _flattened(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in _flattened(inner, f"{path}.{key}" if path else key)]
    plain = isinstance(value, str | int | float | bool)
    return [(path, value if plain else repr(value))]
