"""A terminal that obeys nobody but natlab: names and messages come from outside, and may hold control characters."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from nat_core.logs import without_controls


class HarmlessConsole(Console):
    """A console that spells control characters out; rich takes out some of them only."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(without_controls(segment.text), segment.style)
