"""Sizes of the models that a spec may name: from their folder, from the hub's cache on this machine, or known here."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path

from nat_core.cost.shape import ModelShape
from nat_core.errors import ModelError
from nat_core.preflight import DEMO_MODEL

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def _llama(hidden: int, intermediate: int, layers: int, heads: int, keys: int) -> ModelShape:
    return ModelShape(hidden, intermediate, layers, heads * 64, keys * 64, 49_152, tied=True)


def _qwen3(hidden: int, intermediate: int, layers: int, heads: int, tied: bool) -> ModelShape:
    return ModelShape(hidden, intermediate, layers, heads * 128, 8 * 128, 151_936, tied, normed_heads=True)


def _qwen25(hidden: int, intermediate: int, layers: int, keys: int, vocabulary: int, tied: bool) -> ModelShape:
    return ModelShape(hidden, intermediate, layers, hidden, keys, vocabulary, tied)


_SMOLLM2 = {
    "SmolLM2-135M": _llama(576, 1536, 30, 9, 3),
    "SmolLM2-360M": _llama(960, 2560, 32, 15, 5),
    "SmolLM2-1.7B": _llama(2048, 8192, 24, 32, 32),
}
_QWEN3 = {
    "Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, tied=True),
    "Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, tied=True),
    "Qwen3-4B": _qwen3(2560, 9728, 36, 32, tied=True),
    "Qwen3-8B": _qwen3(4096, 12_288, 36, 32, tied=False),
    "Qwen3-14B": _qwen3(5120, 17_408, 40, 40, tied=False),
}
_QWEN25 = {
    "Qwen2.5-0.5B": _qwen25(896, 4864, 24, 128, 151_936, tied=True),
    "Qwen2.5-1.5B": _qwen25(1536, 8960, 28, 256, 151_936, tied=True),
    "Qwen2.5-3B": _qwen25(2048, 11_008, 36, 256, 151_936, tied=True),
    "Qwen2.5-7B": _qwen25(3584, 18_944, 28, 512, 152_064, tied=False),
}
KNOWN = {
    **{f"HuggingFaceTB/{name}{kind}": shape for name, shape in _SMOLLM2.items() for kind in ("", "-Instruct")},
    **{f"Qwen/{name}{kind}": shape for name, shape in _QWEN3.items() for kind in ("", "-Base")},
    **{f"Qwen/{name}{kind}": shape for name, shape in _QWEN25.items() for kind in ("", "-Instruct")},
}
"""Models that people plan with before anything was downloaded, from the configs that their authors published."""


def shape_of(path: str) -> ModelShape:
    """The sizes of `model.path`; where it is a hub id, nothing is fetched.

    Raises:
        ModelError: they cannot be told here.
    """
    try:
        folder = _folder(path)
        if folder is not None:
            return _sound(ModelShape.read(folder))
    except (OSError, RuntimeError, AttributeError, ArithmeticError, ValueError) as error:
        raise ModelError(f"model.path is {path[:100]!r}, whose config cannot be understood ({error})") from None
    if path in KNOWN:
        return KNOWN[path]
    raise ModelError(
        f"model.path is {path[:100]!r}, whose sizes are not known on this machine, so its cost cannot be told; "
        "give a folder with its config.json, or fetch it here first"
    )


def _sound(shape: ModelShape) -> ModelShape:
    if min(shape.hidden, shape.intermediate, shape.layers, shape.queries, shape.keys, shape.vocabulary) < 1:
        raise ValueError("a size in it is not above 0")
    return shape


def _folder(path: str) -> Path | None:
    """Where the model's config lies on this machine, if it does."""
    if path == DEMO_MODEL:
        return Path(str(resources.files("nat_core"))) / "demo" / "model"
    folder = os.path.expanduser(path)
    if os.path.isdir(folder):  # a name that is too long, or a home that is nobody's, is none
        return Path(folder)
    return _cached(path) if _HUB_ID.fullmatch(path) else None


def _cached(hub_id: str) -> Path | None:
    """The newest download of a model in the hub's cache, where the server's user has one."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    snapshots = cache / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    configs = list(snapshots.glob("*/config.json")) if os.path.isdir(snapshots) else []
    return max(configs, key=lambda config: config.stat().st_mtime).parent if configs else None
