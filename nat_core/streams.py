"""Seeds of a run's random streams: each follows from the run's seed, what it is for and the step alone."""

from __future__ import annotations

import hashlib


def stream_seed(seed: int, stream: str, step: int = 0) -> int:
    """Seed of a named random stream at a step: the same in every cell of an experiment, and after a resume."""
    digest = hashlib.sha256(f"{seed}/{stream}/{step}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
