from __future__ import annotations

import os
from pathlib import Path

from worker.progress import Progress


def test_age_counts_from_the_last_change_on_ones_own_clock(tmp_path: Path) -> None:
    now, path = 100.0, tmp_path / "events.jsonl"
    progress = Progress(path, lambda: now)
    now = 130.0
    assert progress.age_s() == 30.0  # it has not even begun to write
    path.touch()
    assert progress.age_s() == 0.0
    now = 140.0
    assert progress.age_s() == 10.0
    os.utime(path, (0, 0))  # a clock that was set back is a change like any other, once
    assert progress.age_s() == 0.0
    now = 145.0
    assert progress.age_s() == 5.0
