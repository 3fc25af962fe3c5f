"""When a run is saved, and where it goes on: its checkpoints from the trainer's point of view."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from nat_core.checkpoint import Restored, Training, load_checkpoint, save_checkpoint
from nat_core.checkpoint_folder import Saved, bring_back, list_checkpoints, verify_checkpoint
from nat_core.errors import CheckpointError, DiskError
from nat_core.events import CheckpointEvent, LogEvent
from nat_core.ranks import Ranks
from nat_core.reporter import Reporter
from nat_core.sharded_checkpoint import load_sharded, save_sharded
from nat_core.spec import CheckpointSpec


class Saver:
    """Saves and restores one run."""

    def __init__(self, run_dir: Path, spec: CheckpointSpec, reporter: Reporter, training: Training) -> None:
        self._run_dir = run_dir
        self._spec = spec
        self._reporter = reporter
        self._training = training
        self._ranks = training.policy.ranks
        self._save, self._load = _by(self._ranks)
        self._saved: Restored | None = None
        self._saved_at = time.monotonic()

    def restore(self) -> Restored:
        """Go on from the newest whole checkpoint, else from the start; a damaged one is put aside, and that is told.

        Raises:
            CheckpointError: the newest whole one is of another model, so that an earlier one would be, too.
        """
        folder = self._run_dir / "checkpoints"
        self._ranks.lead(lambda: bring_back(folder))
        damaged = 0
        for name in self._ranks.lead(lambda: [path.name for path in reversed(list_checkpoints(folder, damaged=True))]):
            path = folder / name
            why = self._ranks.lead(lambda path=path: _damage(path))  # type: ignore[misc]
            if why is not None:
                damaged += 1
                self._put_aside(path, why)
                continue
            self._saved = self._load(path, self._training)
            return self._saved
        if damaged:
            self._warn("no whole checkpoint is left, so the run starts from its beginning")
        return Restored(0, evaluation_due=True)

    def _put_aside(self, path: Path, why: str) -> None:
        aside = path.with_name(f"damaged-{path.name}-{time.time_ns()}")
        if self._ranks.leads:
            path.rename(aside)
        what = why.removesuffix("; use an earlier one")
        self._warn(f"{what}; the run steps back to the one before, and this one is kept as {aside.name}")

    def save_if_due(self) -> None:
        """After a step. A disk that is full now may have room the next time: training goes on meanwhile."""
        if self._ranks.lead(self._is_due):
            try:
                self.save()
            except DiskError as error:
                self._saved_at = time.monotonic()
                self._warn(f"{error.message}; training goes on without it")

    def _is_due(self) -> bool:
        by_step = self._spec.every and self._reporter.step % self._spec.every == 0
        by_time = self._spec.every_s and time.monotonic() - self._saved_at >= self._spec.every_s
        return bool(by_step or by_time)

    def save(self, evaluation_due: bool = False) -> None:
        """Save where the run stands, unless that is saved already.

        Raises:
            DiskError: it cannot be written.
        """
        now = Restored(self._reporter.step, evaluation_due)
        if now == self._saved:
            return
        self._ranks.lead(self._reporter.sync)
        saved = self._save(
            self._run_dir / "checkpoints",
            self._training,
            step=now.step,
            keep=self._spec.keep,
            evaluation_due=evaluation_due,
        )
        self._saved, self._saved_at = now, time.monotonic()
        path = saved.path.relative_to(self._run_dir).as_posix()
        self._reporter.emit(CheckpointEvent, path=path, size_bytes=saved.size_bytes)

    def _warn(self, message: str) -> None:
        self._reporter.emit(LogEvent, level="warning", message=message)


def _by(ranks: Ranks) -> tuple[Callable[..., Saved], Callable[..., Restored]]:
    """What saves and what loads."""
    return (save_checkpoint, load_checkpoint) if ranks.alone else (save_sharded, load_sharded)


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint."""
    try:
        verify_checkpoint(path)
    except CheckpointError as error:
        return error.message
    return None
