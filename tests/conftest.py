"""What holds for every test: none of the caller's natlab settings, no network, and the longest begin first."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

# Where whole data sets lie is the caller's to say; everything else a test sets itself.
for name in [name for name in os.environ if name.startswith("NATLAB_") and name != "NATLAB_DATA_DIR"]:
    del os.environ[name]

os.environ["HF_HUB_OFFLINE"] = "1"
# Test processes share few cores; more threads than that only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A stage of its own, in an environment of its own: `make test-vllm`.
collect_ignore = [] if importlib.util.find_spec("vllm") else ["vllm"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that say that they may take long come first: left for the end, one of them would keep one core busy."""
    limits: dict[Path, float] = {}
    for item in items:
        limit = item.get_closest_marker("timeout")
        limits[item.path] = max(limits.get(item.path, 0.0), limit.args[0] if limit else 0.0)
    items.sort(key=lambda item: -limits[item.path])
