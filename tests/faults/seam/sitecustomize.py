"""Loaded by every Python of a fault test: makes a trainer die, or wait, at an exact place of its work.

FAULT is a place and what happens there, FAULT_MARK a file that is made when it happens: once, so that
the next attempt gets past. Nothing in natlab knows of this.

    rollout:4:kill          in the fourth call of the sampler, after a few tokens
    backward:3:hold         in the third backward pass: wait there for whoever ends the trainer
    backward:3:stop         the same, by stopping the process: until it is told to continue
    fsync:partial-…4/opt:…  when the first file whose path holds this text is brought to disk
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

PLACE, WHERE, ACTION = os.environ.get("FAULT", "none::").split(":")
AFTER_TOKENS = 5


def fire() -> None:
    mark = Path(os.environ["FAULT_MARK"])
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return
    ACTIONS[ACTION]()


def hold() -> None:
    while True:
        signal.pause()


ACTIONS: dict[str, Callable[[], None]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hold": hold,
}


class Count:
    """Fires at the call whose number is `WHERE`."""

    def __init__(self) -> None:
        self.calls = 0

    def is_it(self) -> bool:
        self.calls += 1
        return self.calls == int(WHERE)


def in_rollout(hf: Any) -> None:
    import torch

    count, tokens = Count(), [0]
    generate, multinomial = hf.generate, torch.multinomial

    @functools.wraps(generate)
    def counted(*args: Any, **kwargs: Any) -> Any:
        tokens[0] = AFTER_TOKENS if count.is_it() else 0
        return generate(*args, **kwargs)

    def draw(*args: Any, **kwargs: Any) -> Any:
        if tokens[0]:
            tokens[0] -= 1
            if not tokens[0]:
                fire()
        return multinomial(*args, **kwargs)

    hf.generate, torch.multinomial = counted, draw


def in_backward(_hf: Any) -> None:
    import torch

    count, backward = Count(), torch.Tensor.backward

    def counted(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if count.is_it():
            tensor.register_hook(lambda _gradient: fire())
        return backward(tensor, *args, **kwargs)

    torch.Tensor.backward = counted  # type: ignore[method-assign, assignment]


def in_fsync(_hf: Any) -> None:
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        if WHERE in os.readlink(f"/proc/self/fd/{descriptor}"):
            fire()
        fsync(descriptor)

    os.fsync = watched


PLACES: dict[str, Callable[[Any], None]] = {"rollout": in_rollout, "backward": in_backward, "fsync": in_fsync}


class Hook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Changes the sampler's module when it has just been loaded: before the trainer takes names from it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "nat_core.rollout.hf":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        PLACES[PLACE](module)


if PLACE in PLACES:
    sys.meta_path.insert(0, Hook())
