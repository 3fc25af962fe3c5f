"""Whether a trainer still gets anywhere, told from the outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


class Progress:
    """How long ago a trainer last touched its `events.jsonl`, which it does at every pass through its model.

    Only changes of the file's time count, and this process's monotonic clock: setting the time hangs no trainer.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._touched: int | None = None
        self._noticed_at = clock()

    def age_s(self) -> float:
        try:
            touched = self._path.stat().st_mtime_ns
        except OSError:
            touched = None
        if touched != self._touched:
            self._touched, self._noticed_at = touched, self._clock()
        return self._clock() - self._noticed_at
