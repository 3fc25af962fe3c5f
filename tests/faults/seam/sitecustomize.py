"""Loaded by every Python of a fault test: makes a trainer die, or wait, at an exact place of its work.

FAULT is a place and what happens there, FAULT_MARK a file that is made when it happens and names the process:
once, so that the next attempt gets past. CLOCK_SKEW_S sets the time of day off by so much, CLOCK_FILE by what stands in
that file, once it is there. Nothing in natlab knows of this.

    rollout:4:kill          in the fourth call of the sampler, after a few tokens
    backward:3:hold         in the third backward pass: wait there for whoever ends the trainer
    backward:3:stop         the same, by stopping the process: until it is told to continue
    backward:3:oom          ask there for more memory than there is; `nan`: make the gradient NaN
    save:2:full             while the second checkpoint is written, the disk takes no more
    fsync:partial-…4/opt:…  when the first file whose path holds this text is brought to disk
    rename:partial-…6:kill  before the first folder whose path holds this text gets another name
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

PLACE, WHERE, ACTION = os.environ.get("FAULT", "none::").split(":")
AFTER_TOKENS = 5


def fire(gradient: Any = None) -> Any:
    mark, fresh = os.environ["FAULT_MARK"], f"{os.environ['FAULT_MARK']}.{os.getpid()}"
    if os.path.exists(mark):  # and the disk may take nothing more
        return None
    with open(fresh, "w") as file:
        file.write(str(os.getpid()))
    try:
        os.link(fresh, mark)  # whole at once: who waits for it may kill this process at the same moment
    except FileExistsError:
        return None
    finally:
        os.unlink(fresh)
    return ACTIONS[ACTION](gradient)


def hold(_gradient: Any) -> None:
    while True:
        signal.pause()


def need_too_much(_gradient: Any) -> None:
    """From here on, so that doing the step again with smaller micro-batches is no help."""
    import torch

    def backward(*_args: Any, **_kwargs: Any) -> None:
        torch.empty(2**50)

    torch.Tensor.backward = backward  # type: ignore[method-assign, assignment]
    torch.empty(2**50)


def fill_the_disk(_gradient: Any) -> None:
    """No file grows beyond its first 100 bytes: events, checkpoints, all that is written now."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))


ACTIONS: dict[str, Callable[[Any], Any]] = {
    "kill": lambda _gradient: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda _gradient: os.kill(os.getpid(), signal.SIGSTOP),
    "hold": hold,
    "oom": need_too_much,
    "nan": lambda gradient: gradient * float("nan"),
    "full": fill_the_disk,
}


class Count:
    """Fires at the call whose number is `WHERE`."""

    def __init__(self) -> None:
        self.calls = 0

    def is_it(self) -> bool:
        self.calls += 1
        return self.calls == int(WHERE)


def in_rollout(hf: Any) -> None:
    count, tokens = Count(), [0]
    generate, draw = hf.generate, hf.slots.draw

    @functools.wraps(generate)
    def counted(*args: Any, **kwargs: Any) -> Any:
        tokens[0] = AFTER_TOKENS if count.is_it() else 0
        return generate(*args, **kwargs)

    def counted_draw(*args: Any, **kwargs: Any) -> Any:
        if tokens[0]:
            tokens[0] -= 1
            if not tokens[0]:
                fire()
        return draw(*args, **kwargs)

    hf.generate, hf.slots.draw = counted, counted_draw


def in_backward(_hf: Any) -> None:
    import torch

    count, backward = Count(), torch.Tensor.backward

    def counted(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if count.is_it():
            tensor.register_hook(fire)
        return backward(tensor, *args, **kwargs)

    torch.Tensor.backward = counted  # type: ignore[method-assign, assignment]


def in_fsync(_hf: Any) -> None:
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        if WHERE in os.readlink(f"/proc/self/fd/{descriptor}"):
            fire()
        fsync(descriptor)

    os.fsync = watched


def in_rename(_hf: Any) -> None:
    rename = os.rename

    def watched(source: Any, target: Any, **kwargs: Any) -> None:
        if WHERE in os.fspath(source):
            fire()
        rename(source, target, **kwargs)

    os.rename = watched


def in_save(_hf: Any) -> None:
    from transformers import PreTrainedModel

    count, save = Count(), PreTrainedModel.save_pretrained

    def counted(*args: Any, **kwargs: Any) -> Any:
        if not count.is_it():
            return save(*args, **kwargs)
        fire()
        try:
            return save(*args, **kwargs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    PreTrainedModel.save_pretrained = counted  # type: ignore[method-assign, assignment]


def skew_s() -> float:
    """By how much the clock is off now."""
    if "CLOCK_SKEW_S" in os.environ:
        return float(os.environ["CLOCK_SKEW_S"])
    try:
        with open(os.environ["CLOCK_FILE"]) as file:
            return float(file.read())
    except (FileNotFoundError, ValueError):  # not set yet, or being written
        return 0.0


def skew_the_clock() -> None:
    true_time = time.time
    time.time = lambda: true_time() + skew_s()


def skew_its_datetime(module: ModuleType) -> None:
    """The same for the one module that the server has the date from."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=skew_s())

    module.datetime = Skewed  # type: ignore[attr-defined]


PLACES: dict[str, Callable[[Any], None]] = {
    "rollout": in_rollout,
    "backward": in_backward,
    "fsync": in_fsync,
    "rename": in_rename,
    "save": in_save,
}


class Hook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Changes a module when it has just been loaded: before others take names from it."""

    def __init__(self, module: str, change: Callable[[ModuleType], None]) -> None:
        self.module, self.change = module, change

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        self.change(module)


if "CLOCK_SKEW_S" in os.environ or "CLOCK_FILE" in os.environ:
    skew_the_clock()
    sys.meta_path.insert(0, Hook("server.tables", skew_its_datetime))
if PLACE in PLACES:
    sys.meta_path.insert(0, Hook("nat_core.rollout.hf", PLACES[PLACE]))
