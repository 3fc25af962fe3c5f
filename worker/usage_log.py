"""What was sampled with each step of an attempt, kept beside its events for when they are sent again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from nat_core.events import AnyEvent, MetricsEvent

log = logging.getLogger(__name__)

Values = Mapping[str, float]


class UsageLog:
    """`usage.<attempt>.jsonl` of a run's folder: by the number of a step's event, what was sampled in that step.

    A step's samples cannot be taken again, so that they are on disk before they are sent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: dict[int, Values] | None = None

    def keep(self, seq: int, values: Values) -> None:
        """Write down what goes with event `seq`. On a disk that takes no more it goes once, and is not kept."""
        self._read = None
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"seq": seq, "values": dict(values)}) + "\n")
        except OSError as error:
            log.warning("%s cannot be written (%s); what is sent again goes without it", self._path, error)

    def told(self, events: Sequence[AnyEvent]) -> list[AnyEvent]:
        """The same events, each with what was kept for it."""
        return [self.with_kept(event) for event in events]

    def with_kept(self, event: AnyEvent) -> AnyEvent:
        if not isinstance(event, MetricsEvent):
            return event
        if self._read is None:
            self._read = self._load()
        return with_values(event, self._read.get(event.seq, {}))

    def _load(self) -> dict[int, Values]:
        """What the file holds; a line that was cut off is left out."""
        found: dict[int, Values] = {}
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            try:
                kept = json.loads(line)
                found[int(kept["seq"])] = {str(key): float(value) for key, value in kept["values"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return found


def with_values(event: MetricsEvent, values: Values) -> MetricsEvent:
    """The event with more values."""
    return event.model_copy(update={"values": {**event.values, **values}}) if values else event
