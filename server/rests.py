"""Runs that rest: whoever got one found its folder in use, and trying again at once would be in vain.

A trainer that no longer reaches the server holds the folder; it ends once it does reach it, and not before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

REST_S = 15.0
"""How long a run rests at first, and twice as long each time."""

LONGEST_REST_S = 600.0


@dataclass(frozen=True)
class Rest:
    """Until when a run is given to nobody, and how long that is in all."""

    until: float
    length_s: float


class Rests:
    """Which runs rest. They are known to this process alone: after a start of the server each is tried at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rests: dict[str, Rest] = {}

    def begin(self, run_id: str) -> None:
        before = self._rests.get(run_id)
        length_s = min(LONGEST_REST_S, 2 * before.length_s if before else REST_S)
        self._rests[run_id] = Rest(self._clock() + length_s, length_s)

    def forget(self, run_id: str) -> None:
        """It could begin, or somebody asked something else of it: the next rest is a short one."""
        self._rests.pop(run_id, None)

    def left_s(self) -> dict[str, float]:
        """The runs that rest now, each with the seconds that are left."""
        now = self._clock()
        return {run_id: rest.until - now for run_id, rest in list(self._rests.items()) if rest.until > now}
