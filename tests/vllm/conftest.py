"""One engine for a file's tests: starting it takes seconds. Sleep is for GPUs alone, vLLM has none on a CPU."""

from __future__ import annotations

import torch

collect_ignore = [] if torch.cuda.is_available() else ["test_sleep.py"]
