"""When a run is saved, and where it goes on: its checkpoints from the trainer's point of view."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from nat_core.checkpoint import Restored, list_checkpoints, load_checkpoint, save_checkpoint
from nat_core.errors import CheckpointError, DiskError
from nat_core.events import CheckpointEvent, LogEvent
from nat_core.reporter import Reporter
from nat_core.spec import CheckpointSpec


class Saver:
    """Saves and restores one run.

    Args:
        parts: what a checkpoint holds, in the order in which `save_checkpoint` takes it.
    """

    def __init__(self, run_dir: Path, spec: CheckpointSpec, reporter: Reporter, parts: tuple[Any, ...]) -> None:
        self._run_dir = run_dir
        self._spec = spec
        self._reporter = reporter
        self._parts = parts
        self._saved: Restored | None = None
        self._saved_at = time.monotonic()

    def restore(self) -> Restored:
        """Go on from the newest whole checkpoint, else from the start; a damaged one is put aside."""
        for path in reversed(list_checkpoints(self._run_dir / "checkpoints")):
            try:
                self._saved = load_checkpoint(path, *self._parts)
            except CheckpointError as error:
                self._reporter.emit(LogEvent, level="warning", message=error.message)
                path.rename(path.with_name(f"damaged-{path.name}-{time.time_ns()}"))
            else:
                return self._saved
        return Restored(0, evaluation_due=True)

    def save_if_due(self) -> None:
        """After a step. A disk that is full now may have room the next time: training goes on meanwhile."""
        by_step = self._spec.every and self._reporter.step % self._spec.every == 0
        by_time = self._spec.every_s and time.monotonic() - self._saved_at >= self._spec.every_s
        if by_step or by_time:
            try:
                self.save()
            except DiskError as error:
                self._saved_at = time.monotonic()
                message = f"{error.message}; training goes on without it"
                self._reporter.emit(LogEvent, level="warning", message=message)

    def save(self, evaluation_due: bool = False) -> None:
        """Save where the run stands, unless that is saved already.

        Raises:
            DiskError: it cannot be written.
        """
        now = Restored(self._reporter.step, evaluation_due)
        if now == self._saved:
            return
        self._reporter.sync()
        saved = save_checkpoint(
            self._run_dir / "checkpoints",
            *self._parts,
            step=now.step,
            keep=self._spec.keep,
            evaluation_due=evaluation_due,
        )
        self._saved, self._saved_at = now, time.monotonic()
        path = saved.path.relative_to(self._run_dir).as_posix()
        self._reporter.emit(CheckpointEvent, path=path, size_bytes=saved.size_bytes)
