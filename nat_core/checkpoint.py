"""Checkpoints that are whole or not there: written beside, hashed, then renamed into place.

A checkpoint is a folder `step-00000060` with the model as transformers saves it (of one with adapters, these as peft
saves them), the optimizer's tensors (safetensors; of several ranks a file each, see `sharded_checkpoint`), `state.json`
and `manifest.json` (sizes and sha256 of all files, written last). Never pickle. A folder whose name begins with a dot
is being written, or is on its way out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nat_core.errors import CheckpointError, DiskError
from nat_core.model import Policy
from nat_core.parts import SHARDS, read_optimizer
from nat_core.spec import ModelSpec
from nat_core.token_selection import GradientMass
from nat_core.weights import load_weights, save_weights

_PREFIX = "step-"
_PARTIAL = ".partial-"
_REPLACED = ".replaced-"
_PRUNED = ".pruned-"
_ALWAYS = ("optimizer.safetensors", "state.json")


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk."""

    path: Path
    size_bytes: int


@dataclass(frozen=True)
class Restored:
    """Where a checkpoint leaves off: steps done, and whether they were still to be evaluated."""

    step: int
    evaluation_due: bool


def save_checkpoint(
    folder: Path,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
    law_state: GradientMass,
    *,
    step: int,
    keep: int,
    evaluation_due: bool = False,
) -> Saved:
    """Write the state after `step` steps and delete all but the `keep` newest checkpoints.

    Args:
        evaluation_due: the run was stopped before it had evaluated this state.

    Raises:
        DiskError: it cannot be written; the earlier checkpoints are as they were.
    """
    final, partial = places(folder, step)
    shutil.rmtree(partial, ignore_errors=True)
    tensors, scalars = flatten(optimizer.state_dict())
    state = small_state(policy, step, evaluation_due, scalars, schedule, generator, law_state)
    with cleared_on_error(partial, final):
        partial.mkdir(parents=True)
        save_weights(policy, partial / "model")
        save_file(tensors, partial / "optimizer.safetensors")
        size = seal(partial, state)
        put_in_place(partial, final, keep)
    return Saved(final, size)


def places(folder: Path, step: int) -> tuple[Path, Path]:
    """Where a checkpoint is in the end, and where it is written."""
    return folder / f"{_PREFIX}{step:08d}", folder / f"{_PARTIAL}{step:08d}"


def small_state(
    policy: Policy,
    step: int,
    evaluation_due: bool,
    scalars: dict[str, Any],
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
    law_state: GradientMass,
) -> dict[str, Any]:
    """What `state.json` holds."""
    return {
        "step": step,
        "model": policy.spec.model_dump(mode="json"),
        "evaluation_due": evaluation_due,
        "optimizer": scalars,
        "schedule": {key: value for key, value in schedule.state_dict().items() if _is_plain(value)},
        "generator": generator.get_state().tolist(),
        "law_state": law_state.state_dict(),
    }


@contextlib.contextmanager
def cleared_on_error(partial: Path, final: Path) -> Iterator[None]:
    """Take away what was written when the rest cannot be, and say so as a `DiskError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk its space is what the rest of the run needs
        reason = " ".join(str(error).split())
        raise DiskError(f"checkpoint {final} cannot be written ({reason}); free some disk space") from None


def put_in_place(partial: Path, final: Path, keep: int) -> None:
    """Give a sealed checkpoint its name, and delete all but the `keep` newest.

    One of the same step steps aside first, so that one of the two is whole at every moment (see `bring_back`); and
    what is deleted loses its name first, so that nothing half-deleted is ever taken for a checkpoint.
    """
    folder = final.parent
    if final.exists():
        _step_aside(_REPLACED, final)
    try:
        partial.rename(final)
    except OSError:
        bring_back(folder)
        raise
    fsync(folder)
    for old in list_checkpoints(folder)[:-keep]:
        with contextlib.suppress(OSError):  # it goes with the next one
            _step_aside(_PRUNED, old)
    for prefix in (_PARTIAL, _REPLACED, _PRUNED):  # and what a killed trainer left of the like
        for left in folder.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)


def bring_back(folder: Path) -> None:
    """Undo a replacement that was cut off after the old checkpoint had stepped aside and before the new one came."""
    for aside in sorted(folder.glob(f"{_REPLACED}*")):
        final = folder / aside.name.removeprefix(_REPLACED)
        if not final.exists():
            aside.rename(final)
            fsync(folder)


def _step_aside(prefix: str, path: Path) -> None:
    aside = path.with_name(f"{prefix}{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def load_checkpoint(
    path: Path,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
    law_state: GradientMass,
) -> Restored:
    """Restore everything `save_checkpoint` wrote; `verify_checkpoint` first.

    Raises:
        CheckpointError: it is of another model.
    """
    load_weights(policy, path / "model")
    state = json.loads((path / "state.json").read_text())
    optimizer.load_state_dict(unflatten(_optimizer_tensors(path, policy), state["optimizer"]))
    return load_small_state(state, schedule, generator, law_state)


def _optimizer_tensors(path: Path, policy: Policy) -> dict[str, torch.Tensor]:
    """By name, also of a checkpoint that several ranks wrote."""
    if (path / SHARDS).is_dir():
        return read_optimizer(path, policy.parameters)
    return load_file(path / "optimizer.safetensors")


def load_small_state(
    state: dict[str, Any],
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
    law_state: GradientMass,
) -> Restored:
    """Restore what `state.json` holds but for the optimizer."""
    schedule.load_state_dict({**schedule.state_dict(), **state["schedule"]})
    generator.set_state(torch.tensor(state["generator"], dtype=torch.uint8))
    law_state.load_state_dict(state["law_state"])
    step = int(state["step"])
    return Restored(step, evaluation_due=step == 0 or bool(state.get("evaluation_due")))


def model_of(path: Path) -> ModelSpec:
    """The model section of the spec that a checkpoint was written under.

    Raises:
        CheckpointError: an earlier natlab wrote it, which did not note that.
    """
    section = json.loads((path / "state.json").read_text()).get("model")
    if section is None:
        raise CheckpointError(
            f"checkpoint {path} does not say what model it is of; its model folder can be used as it is"
        )
    return ModelSpec.model_validate(section)


def list_checkpoints(folder: Path, damaged: bool = False) -> list[Path]:
    """Complete checkpoints, oldest first; with `damaged` those without a manifest, too."""
    found = sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())
    return [path for path in found if damaged or (path / "manifest.json").is_file()]


def verify_checkpoint(path: Path) -> None:
    """Raise a `CheckpointError` unless every file is there with the size and hash the manifest tells."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        wanted = {name: (entry["size"], entry["sha256"]) for name, entry in manifest.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise CheckpointError(f"checkpoint {path} has no readable manifest ({error}); use an earlier one") from None
    for name in sorted({*wanted, *_ALWAYS}):
        file = path / name
        if not file.is_file() or (file.stat().st_size, _sha256(file)) != wanted.get(name):
            raise CheckpointError(f"checkpoint {path} is damaged: {name} is not what was written; use an earlier one")


def seal(folder: Path, state: dict[str, Any]) -> int:
    """Write `state.json`, fsync every file and folder, write the manifest last, and return the total size in bytes."""
    (folder / "state.json").write_text(json.dumps(state))
    manifest: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        fsync(path)
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            manifest[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    fsync(folder / "manifest.json")
    fsync(folder)
    return sum(entry["size"] for entry in manifest.values())


def fsync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flatten(state: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors by name `index.key` and plain JSON values."""
    tensors, plain = {}, {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{key}"] = value.contiguous()
            else:
                plain[f"{index}.{key}"] = value
    return tensors, {"plain": plain, "param_groups": state["param_groups"]}


def unflatten(tensors: dict[str, torch.Tensor], scalars: dict[str, Any]) -> dict[str, Any]:
    """Put together what `flatten` took apart."""
    entries: dict[int, dict[str, Any]] = {}
    for name, value in (tensors | scalars["plain"]).items():
        index, _, key = name.partition(".")
        entries.setdefault(int(index), {})[key] = value
    return {"state": entries, "param_groups": scalars["param_groups"]}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str | bool | list | dict)
