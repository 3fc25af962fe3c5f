"""What takes seconds before a run can begin, and is the same for every run: importing torch and transformers."""

from __future__ import annotations

import importlib
import os

LATER = ("torch._dynamo", "transformers.models.qwen3.modeling_qwen3")
"""Imported by torch and transformers when they are first used: by an optimizer, by the demo model."""


def load() -> None:
    """Import what every trainer needs."""
    # OpenMP threads that spin for long while they wait make a step 5 to 20 times slower as soon as anything else wants
    # a core; threads that sleep at once make it half as slow again when alone. Ten thousand turns lose 10% alone and
    # a factor of two beside another trainer, about what sharing costs anyway. Read once, when torch loads.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    importlib.import_module("nat_core.trainer")


def load_ahead() -> None:
    """`load`, and what a trainer would import under way: for a process that has the time now and not later."""
    load()
    for name in LATER:
        importlib.import_module(name)
