"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft: thin matrices are trained, the model's own weights stay.

peft puts the adapters into the model's layers, so that the model itself is still what transformers loaded: packed
passes, rollouts and checkpointing work on it as on any other. With the adapters switched off it is the model from
before training, which is what a reference needs: no second copy.

There is no dropout: old and new log-probabilities must come from the same function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nat_core.errors import Fault, ModelError
from nat_core.extras import keep_bitsandbytes_from_the_hub, required
from nat_core.spec import ModelSpec

_NAME = "default"
_PREFIX = "base_model.model."  # of every name in a file of peft's
_BASE = ".base_layer"  # what peft puts the model's own layers under


def attach(model: PreTrainedModel, spec: ModelSpec) -> None:
    """Freeze the model and put fresh adapters into it; they add nothing yet.

    Raises:
        ModelError: peft is not installed, or a layer that was asked for is not there or is none for an adapter.
    """
    keep_bitsandbytes_from_the_hub()  # peft looks for it
    peft = required("peft", "trainer", "model.lora.r")
    lora = spec.lora
    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=_targets(model, lora.modules),
        task_type="CAUSAL_LM",
        revision=spec.revision,
    )
    model.add_adapter(config, _NAME)
    if spec.dtype == "bfloat16":
        _hold_frozen_matrices_in_bfloat16(model)


def is_adapted(model: nn.Module) -> bool:
    """Whether the model has adapters."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The adapters' weights, by the names that peft's files give them."""
    named = model.named_parameters()
    return {_PREFIX + name.replace(f".{_NAME}.", "."): weight for name, weight in named if is_part_of(name)}


def is_part_of(name: str) -> bool:
    """Whether this is the name of an adapter's weight."""
    return ".lora_" in name


def plain_name(name: str) -> str:
    """What a weight of the model's own is called where there are no adapters."""
    return name.replace(f"{_BASE}.", ".")


def added(model: nn.Module, name: str, weight: Tensor) -> Tensor:
    """What one matrix would have to be for the model to do alone what it does with its adapters.

    Args:
        name: of the layer whose matrix it is.
        weight: the matrix itself; it stays as it is.
    """
    if not name.endswith(_BASE):
        return weight
    layer: Any = model.get_submodule(name.removesuffix(_BASE))
    change: Tensor = layer.get_delta_weight(_NAME)
    return weight + change  # float32, as adapters are


def config_of(model: PreTrainedModel) -> Any:
    """peft's description of the adapters, which it needs to load them."""
    configs: Any = model.peft_config
    return configs[_NAME]


@contextmanager
def switched_off(model: PreTrainedModel) -> Iterator[None]:
    """The model as it was before training."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


def _targets(model: PreTrainedModel, asked: list[str] | None) -> list[str]:
    """Names of the layers that get adapters; every linear one of the trunk where none are asked for."""
    trunk: nn.Module = model.get_decoder()
    layers = {name.rsplit(".", 1)[-1] for name, part in trunk.named_modules() if isinstance(part, nn.Linear | Conv1D)}
    if asked is None:
        return sorted(layers)
    wrong = next((name for name in asked if name not in layers), None)
    if wrong is not None:
        detail = (
            f"model.lora.target_modules names {wrong}, which is no linear layer of {type(model).__name__}; take from "
            f"{', '.join(sorted(layers))}"
        )
        raise ModelError(detail, [Fault("/model/lora/target_modules", detail)])
    return asked


def _hold_frozen_matrices_in_bfloat16(model: PreTrainedModel) -> None:
    """Every pass would round them to that anyway: the same numbers in half of the memory.

    A head that shares its weights with the embedding stays: what is looked up there is not rounded.
    """
    looked_up = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in model.modules():
        if type(module) is nn.Linear and not module.weight.requires_grad and id(module.weight) not in looked_up:
            module.weight.data = module.weight.data.to(torch.bfloat16)
