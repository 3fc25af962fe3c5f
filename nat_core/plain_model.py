"""A checkpoint's model as a Hugging Face folder, where its files cannot be taken as they are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from nat_core import quantized
from nat_core.checkpoint import model_of
from nat_core.extras import keep_bitsandbytes_from_the_hub, required
from nat_core.model import source_of

_ADAPTER_FILES = "adapter_*"


def write_model(checkpoint: Path, folder: Path, dtype: str) -> None:
    """Write the trained model of a checkpoint, adapters added to it, with weights of this type.

    Raises:
        ModelError: the model that adapters belong to cannot be loaded.
    """
    trained = checkpoint / "model"
    if (trained / "adapter_config.json").is_file():
        model = _merged(checkpoint)
    else:
        model = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32, use_safetensors=True)
    model.generation_config = GenerationConfig.from_pretrained(trained)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    written = {file.name for file in folder.iterdir()}
    for file in trained.iterdir():
        if file.name not in written and file.suffix != ".safetensors" and not file.match(_ADAPTER_FILES):
            shutil.copy(file, folder / file.name)


def _merged(checkpoint: Path) -> Any:
    """The model that the adapters were trained beside, with them added to its weights, in float32."""
    spec = model_of(checkpoint)
    keep_bitsandbytes_from_the_hub()
    peft = required("peft", "trainer", "model.lora.r")
    source, arguments = source_of(spec)
    quantization = quantized.loading_arguments(spec, torch.device("cpu"))
    model: Any = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, use_safetensors=True, **arguments, **quantization
    )
    if quantization:
        model = model.dequantize(dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, checkpoint / "model").merge_and_unload()
