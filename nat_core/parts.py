"""Tensors in files of which each holds a part: written by several ranks, read by any number.

torch's distributed checkpoints in their safetensors format, which tells of each part where in the whole it belongs. Its
default format has a pickle besides, and natlab keeps none.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from nat_core.errors import CheckpointError, DiskError

SHARDS = "optimizer"
"""The folder of a checkpoint where several ranks write the optimizer's tensors."""


def read_optimizer(path: Path, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint's optimizer by name `index.key`, each cut as the parameter of that index is."""
    folder = path / SHARDS if (path / SHARDS).is_dir() else path
    found = {name: torch.zeros_like(parameters[int(name.partition(".")[0])]) for name in _shapes(folder)}
    if found:
        read_parts(folder, found)
    return found | _numbers(path / "optimizer.safetensors")


def write_parts(partial: Path, tensors: dict[str, Tensor], final: Path) -> None:
    """Write this rank's part of the tensors; all ranks call this.

    Args:
        partial: the folder of a checkpoint that is being written.
        final: its name in messages.

    Raises:
        DiskError: on every rank, when one could not write; `partial` is gone.
    """
    if not tensors:
        return
    try:
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(partial / SHARDS), save_distributed=True))
    except CheckpointException as error:  # raised on every rank, whichever failed
        if not all(isinstance(reason, OSError) for reason, _ in error.failures.values()):
            raise RuntimeError(f"checkpoint {final} cannot be written: {error}") from error
        shutil.rmtree(partial, ignore_errors=True)
        told = "; ".join(f"rank {rank}: {reason}" for rank, (reason, _) in sorted(error.failures.items()))
        raise DiskError(f"checkpoint {final} cannot be written ({told}); free some disk space") from None


def read_parts(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Fill tensors by name, each rank its part of them.

    Raises:
        CheckpointError: one of them is not there, or of another shape.
    """
    there = _shapes(folder)
    wrong = next((name for name, tensor in tensors.items() if there.get(name) != list(tensor.shape)), None)
    if wrong is not None:
        found = f"is {there[wrong]} and not {list(tensors[wrong].shape)}" if wrong in there else "is missing"
        raise CheckpointError(
            f"{folder} does not fit the model that the spec describes: {wrong} {found}; go on with the spec it was "
            "written under, or start anew without resuming"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is")  # disabled, with one process: as meant
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=not dist.is_initialized())


def _shapes(folder: Path) -> dict[str, list[int]]:
    """Of the tensors that safetensors files in a folder hold, single numbers left out."""
    known = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: list(meta.size) for name, meta in known.items() if len(meta.size)}  # type: ignore[union-attr]


def _numbers(file: Path) -> dict[str, Tensor]:
    """Tensors of no dimension, which every rank has whole."""
    with safe_open(file, framework="pt") as opened:
        names = [name for name in opened.keys() if not opened.get_slice(name).get_shape()]  # noqa: SIM118 no dict
        return {name: opened.get_tensor(name) for name in names}
