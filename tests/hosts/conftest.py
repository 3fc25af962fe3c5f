"""A network of hosts for each test; the run that nothing disturbed is the fault tests'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import undisturbed
from tests.hosts.boxes import Boxes
from tests.hosts.lan import Lan
from tests.server.support import wait_until

__all__ = ["boxes", "undisturbed"]


@pytest.fixture
def lan() -> Iterator[Lan]:
    lan = Lan()
    yield lan
    lan.close()


@pytest.fixture
def boxes(tmp_path: Path, lan: Lan) -> Iterator[Boxes]:
    boxes = Boxes(tmp_path, lan)
    try:
        yield boxes
    finally:
        boxes.close()
    wait_until(lambda: boxes.trainers() == [])
