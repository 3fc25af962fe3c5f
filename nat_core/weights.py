"""What a checkpoint keeps of a model: all weights as transformers saves them, or the adapters' as peft does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from nat_core import adapter
from nat_core.errors import CheckpointError
from nat_core.model import Policy


def save_weights(policy: Policy, folder: Path) -> None:
    """Write what training changes, and the tokenizer, as a folder that transformers or peft can load."""
    if adapter.is_adapted(policy.model):
        folder.mkdir()
        weights = {name: weight.detach().cpu().contiguous() for name, weight in adapter.weights(policy.model).items()}
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        adapter.config_of(policy.model).save_pretrained(str(folder))
        if policy.model.generation_config is not None:
            policy.model.generation_config.save_pretrained(folder)
    else:
        policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)


def load_weights(policy: Policy, folder: Path) -> None:
    """Put weights back that `save_weights` wrote: every one of them, and no other.

    Raises:
        CheckpointError: they are another model's, or other adapters'.
    """
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    own = adapter.weights(policy.model) if adapter.is_adapted(policy.model) else _all(policy.model)
    wrong = _names(own, found)
    if wrong and not adapter.is_adapted(policy.model):
        found, wrong = _as_in_memory(policy.model, folder, wrong)
    wrong = wrong or _shapes(own, found)
    if wrong:
        raise CheckpointError(
            f"{folder} does not fit the model that the spec describes: {wrong}; go on with the spec it was written "
            "under, or start anew without resuming"
        )
    with torch.no_grad():
        for name, weight in found.items():
            own[name].copy_(weight)


def _all(model: PreTrainedModel) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = model.state_dict(keep_vars=True)
    return tensors


def _names(own: dict[str, Tensor], found: dict[str, Tensor]) -> str | None:
    """Names on one side only; of weights that share their memory one is enough."""
    unknown = sorted(set(found) - set(own))
    if unknown:
        return f"it has no {unknown[0]}"
    there = {own[name].data_ptr() for name in found}
    lacking = sorted(name for name in set(own) - set(found) if own[name].data_ptr() not in there)
    return f"{lacking[0]} is missing" if lacking else None


def _shapes(own: dict[str, Tensor], found: dict[str, Tensor]) -> str | None:
    for name, weight in found.items():
        if weight.shape != own[name].shape:
            return f"{name} is {list(weight.shape)} and not {list(own[name].shape)}"
    return None


def _as_in_memory(model: PreTrainedModel, folder: Path, wrong: str) -> tuple[dict[str, Tensor], str | None]:
    """Weights that transformers names or shapes otherwise in files, as experts: it reads them back itself.

    Args:
        wrong: what the files' own names would be refused for; comes back where transformers cannot place them either.
    """
    kind: Any = type(model)
    try:
        loaded, report = kind.from_pretrained(folder, dtype=model.dtype, output_loading_info=True, use_safetensors=True)
    except Exception:  # another model's files: what is raised depends on where they differ
        return {}, wrong
    return _all(loaded), wrong if any(report.values()) else None
