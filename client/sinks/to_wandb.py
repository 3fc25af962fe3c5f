"""Weights & Biases: online with your login, or with `WANDB_MODE=offline` in a folder that `wandb sync` sends later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from client.errors import ClientError
from client.sinks.sink import RunInfo

_EXIT_CODES = {"failed": 1}


class WandbSink:
    """A W&B run under natlab's own id, so that sent twice it is refused there."""

    def __init__(self, folder: Path, project: str) -> None:
        self._folder = folder
        self._project = project
        self._run: Any = None

    def begin(self, run: RunInfo) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if any(self._folder.glob(f"wandb/offline-run-*-{run.id}")):
            raise ClientError(f"{self._folder} holds {run.id} already; remove it, or send to another folder with --dir")
        try:
            self._run = wandb.init(
                project=self._project,
                dir=str(self._folder),
                id=run.id,
                resume="never",
                name=run.name,
                group=run.group or None,
                tags=list(run.tags),
                config=dict(run.config),
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
            )
        except wandb.Error as error:
            raise ClientError(
                f"W&B takes no run {run.id} ({error}); log in with `wandb login`, or set WANDB_MODE=offline"
            ) from None

    def write(self, values: Mapping[str, float], step: int, time: float) -> None:
        self._run.log({**values, "_timestamp": time}, step=step)

    def end(self, outcome: str) -> None:
        if self._run is not None:
            self._run.summary["outcome"] = outcome
            self._run.finish(exit_code=_EXIT_CODES.get(outcome, 0))
            # The file is another process's, and it may come a moment after `finish`: that process is waited for.
            wandb.teardown()


def make(directory: Path, project: str) -> WandbSink:
    return WandbSink(directory, project)
