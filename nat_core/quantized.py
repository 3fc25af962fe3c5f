"""A model's own weights in 4 bits (QLoRA, arXiv 2305.14314), by bitsandbytes: NF4, its scales quantized once more.

They are never trained: adapters beside them are. Export gives the weights that were trained with, so those that 4 bits
stand for and not those that were rounded to them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from nat_core.extras import keep_bitsandbytes_from_the_hub, required
from nat_core.spec import ModelSpec

_PACKS = "support_avx512bf16_for_cpu"


def loading_arguments(spec: ModelSpec, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` has to be told; nothing where the weights stay whole.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    if spec.lora.quantize == "none":
        return {}
    keep_bitsandbytes_from_the_hub()
    required("bitsandbytes", "qlora", "model.lora.quantize")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=spec.lora.quantize,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, spec.dtype),
    )
    return {"quantization_config": config, "device_map": {"": device}}


def keep_trainable(model: nn.Module) -> None:
    """Keep bitsandbytes from packing weights anew for sampling on a CPU: what it packs passes on no gradient."""
    for module in model.modules():
        if hasattr(module, _PACKS):
            setattr(module, _PACKS, False)


def quantize(model: Any, spec: ModelSpec, device: torch.device) -> None:
    """Bring a model that no file was loaded for into 4 bits, as loading does: every matrix but the head.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    config = loading_arguments(spec, device)["quantization_config"]
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    head = model.get_output_embeddings()
    whole = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    replace_with_bnb_linear(model, [name for name, module in whole.items() if module is head], config)
    for name, module in whole.items():
        made: Any = model.get_submodule(name)
        if made is not module:
            weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
            made.weight = type(made.weight)(weight, requires_grad=False, **made.weight.__dict__).to(device)
            made.bias = module.bias
    model.is_loaded_in_4bit = True
    keep_trainable(model)


def whole(module: nn.Module) -> Tensor:
    """The matrix that a layer's passes multiply by: its own, or the one that its 4 bits stand for."""
    layer: Any = module
    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        own: Tensor = layer.weight.detach()
        return own
    bitsandbytes: Any = required("bitsandbytes", "qlora", "model.lora.quantize")
    found: Tensor = bitsandbytes.functional.dequantize_4bit(layer.weight.data, state)
    return found


def as_before(module: nn.Module, matrix: Tensor) -> Tensor:
    """A layer's matrix the way it lay before 4 bits, which turn the matrices of a `Conv1D`."""
    return matrix.T if getattr(module, "source_cls", None) is Conv1D else matrix


def size(weight: Tensor) -> int:
    """How many weights there are, also where a byte holds two of them."""
    state: Any = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else math.prod(state.shape)


def is_matrix(weight: Tensor) -> bool:
    """Whether a pass multiplies by it."""
    state: Any = getattr(weight, "quant_state", None)
    return len(weight.shape if state is None else state.shape) >= 2
