"""The policy's weights as others read them: with the names and shapes of the model's own files, adapters added in."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from nat_core import adapter, quantized
from nat_core.errors import DiskError
from nat_core.model import Policy

_FILE_BYTES = 4 * 2**30
_LAYER = re.compile(r".*?\.\d+\.")


def checkpoint_weights(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """Each weight with the name that a checkpoint gives it; one that is used twice (tied embeddings) comes once.

    transformers may hold weights otherwise than files do, experts of a mixture in one tensor for example. Tensors are
    the policy's own wherever the two agree: nothing is copied, and they change with the next step. A matrix with an
    adapter, or in 4 bits, is made when its layer's turn comes, so that no second model is ever whole.
    """
    for _, layer in groupby(_weights(policy.model), key=lambda named: _layer_of(named[0])):
        yield from revert_weight_conversion(policy.model, dict(layer)).items()


def write_weights(policy: Policy, folder: Path) -> None:
    """Write `checkpoint_weights` as safetensors files of a few GiB each, into a folder that holds nothing else then.

    Raises:
        DiskError: it cannot be written; the folder is gone.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number, weights in enumerate(_portions(checkpoint_weights(policy)), start=1):
            save_file(weights, folder / f"model-{number:05d}.safetensors", metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = " ".join(str(error).split())
        raise DiskError(f"{folder} cannot be written ({reason}); free some disk space") from None


@torch.no_grad()
def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights as a model without adapters would have them, layer by layer; those that share memory come once."""
    held = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name in model.state_dict(keep_vars=True):  # the first name is that of the embeddings, which files keep
        if name not in held or adapter.is_part_of(name):  # what 4 bits have beside their weights, and adapters'
            continue
        place = held[name].data_ptr(), tuple(held[name].shape)
        if place not in seen:
            seen.add(place)
            owner, _, kind = name.rpartition(".")
            tensor = held[name].detach()
            if kind == "weight":
                module = model.get_submodule(owner)
                tensor = quantized.as_before(module, adapter.added(model, owner, quantized.whole(module)))
            yield adapter.plain_name(name), tensor


def _layer_of(name: str) -> str:
    """What names of one layer begin with; conversions stay within it."""
    found = _LAYER.match(name)
    return found.group() if found else name


def _portions(weights: Iterator[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    portion: dict[str, Tensor] = {}
    size = 0
    for name, tensor in weights:
        if portion and size + tensor.nbytes > _FILE_BYTES:
            yield portion
            portion, size = {}, 0
        portion[name] = tensor.cpu().contiguous()
        size += tensor.nbytes
    if portion:
        yield portion
