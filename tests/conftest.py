"""What holds for every test: none of the caller's natlab settings, and no network."""

from __future__ import annotations

import importlib.util
import os

# Where whole data sets lie is the caller's to say; everything else a test sets itself.
for name in [name for name in os.environ if name.startswith("NATLAB_") and name != "NATLAB_DATA_DIR"]:
    del os.environ[name]

os.environ["HF_HUB_OFFLINE"] = "1"
# Test processes share few cores; more threads than that only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A stage of its own, in an environment of its own: `make test-vllm`.
collect_ignore = [] if importlib.util.find_spec("vllm") else ["vllm"]
