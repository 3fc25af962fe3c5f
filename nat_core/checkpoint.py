"""What a checkpoint holds, and how it comes back.

The model as transformers saves it (of one with adapters, these as peft saves them), the optimizer's tensors
(safetensors; of several ranks a file each, see `sharded_checkpoint`) and `state.json`, in a folder that is whole or not
there (`checkpoint_folder`). Never pickle.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from nat_core.checkpoint_folder import Saved, cleared_on_error, places, put_in_place, seal
from nat_core.errors import CheckpointError
from nat_core.model import Policy
from nat_core.parts import SHARDS, read_optimizer
from nat_core.spec import ModelSpec
from nat_core.token_selection import GradientMass
from nat_core.weights import load_weights, save_weights


@dataclass(frozen=True)
class Training:
    """What changes as a run is trained, and what its checkpoints hold.

    Attributes:
        generator: the selector's own.
        law_state: what `rpc` with law `optimal` has learned.
    """

    policy: Policy
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    generator: torch.Generator
    law_state: GradientMass


@dataclass(frozen=True)
class Restored:
    """Where a checkpoint leaves off: steps done, and whether they were still to be evaluated."""

    step: int
    evaluation_due: bool


def save_checkpoint(folder: Path, training: Training, *, step: int, keep: int, evaluation_due: bool = False) -> Saved:
    """Write the state after `step` steps and delete all but the `keep` newest checkpoints.

    Args:
        evaluation_due: the run was stopped before it had evaluated this state.

    Raises:
        DiskError: it cannot be written; the earlier checkpoints are as they were.
    """
    final, partial = places(folder, step)
    shutil.rmtree(partial, ignore_errors=True)
    tensors, scalars = flatten(training.optimizer.state_dict())
    state = small_state(training, step, evaluation_due, scalars)
    with cleared_on_error(partial, final):
        partial.mkdir(parents=True)
        save_weights(training.policy, partial / "model")
        save_file(tensors, partial / "optimizer.safetensors")
        size = seal(partial, state)
        put_in_place(partial, final, keep)
    return Saved(final, size)


def small_state(training: Training, step: int, evaluation_due: bool, scalars: dict[str, Any]) -> dict[str, Any]:
    """What `state.json` holds; `scalars` are the optimizer's."""
    schedule = training.schedule.state_dict()
    return {
        "step": step,
        "model": training.policy.spec.model_dump(mode="json"),
        "evaluation_due": evaluation_due,
        "optimizer": scalars,
        "schedule": {key: value for key, value in schedule.items() if _is_plain(value)},
        "generator": training.generator.get_state().tolist(),
        "law_state": training.law_state.state_dict(),
    }


def load_checkpoint(path: Path, training: Training) -> Restored:
    """Restore everything `save_checkpoint` wrote; `verify_checkpoint` first.

    Raises:
        CheckpointError: it is of another model.
    """
    load_weights(training.policy, path / "model")
    return load_state(path, _optimizer_tensors(path, training.policy), training)


def load_state(path: Path, tensors: dict[str, torch.Tensor], training: Training) -> Restored:
    """Restore all but the weights, from what `state.json` holds and the optimizer's tensors.

    How fast to learn is left to the spec, which may have been changed since: rates, their schedule, decay.
    """
    state = json.loads((path / "state.json").read_text())
    optimizer, schedule = training.optimizer, training.schedule
    asked, rates = optimizer.state_dict()["param_groups"], schedule.base_lrs
    optimizer.load_state_dict(unflatten(tensors, state["optimizer"] | {"param_groups": asked}))
    schedule.load_state_dict({**schedule.state_dict(), **state["schedule"], "base_lrs": rates})
    for group, rate, factor in zip(optimizer.param_groups, rates, schedule.lr_lambdas, strict=True):
        group["lr"] = rate * factor(schedule.last_epoch)
    schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
    training.generator.set_state(torch.tensor(state["generator"], dtype=torch.uint8))
    training.law_state.load_state_dict(state["law_state"])
    step = int(state["step"])
    return Restored(step, evaluation_due=step == 0 or bool(state.get("evaluation_due")))


def _optimizer_tensors(path: Path, policy: Policy) -> dict[str, torch.Tensor]:
    """By name, also of a checkpoint that several ranks wrote."""
    if (path / SHARDS).is_dir():
        return read_optimizer(path, policy.parameters)
    return load_file(path / "optimizer.safetensors")


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
