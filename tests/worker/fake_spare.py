"""A spare trainer that loads nothing and, once it is given a run, is the fake trainer."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from nat_core.spare import main


def train(arguments: list[str]) -> int:
    sys.argv = ["fake_trainer.py", *arguments]
    runpy.run_path(str(Path(__file__).with_name("fake_trainer.py")), run_name="__main__")
    return 0


sys.exit(main(load=lambda: None, train=train))
