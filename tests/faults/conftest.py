"""Each test gets a stack of its own; all of them share one run that nothing disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import processes_of
from tests.faults.stack import BASE, BUDGET, LEASE_S, ROOT, Stack
from tests.server.support import wait_until


@pytest.fixture
def lease_s() -> float:
    return LEASE_S


@pytest.fixture
def stack(tmp_path: Path, lease_s: float) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="nl") as short:  # a socket's path has 108 bytes at most
        stack = Stack(tmp_path, Path(short) / "v.sock", lease_s)
        try:
            yield stack
            assert stack.trainers() == []
            wait_until(lambda: stack.left_of_the_trainer() == [])
        finally:
            stack.close()
    wait_until(lambda: processes_of(stack.home) == [])


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run, trained straight from start to end without server and worker."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "spec.json").write_text(json.dumps({**BASE, "budget": BUDGET, "seed": 0}))
    argv = [sys.executable, "-m", "nat_core", str(folder / "spec.json"), "--output", str(folder)]
    subprocess.run(argv, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    return folder
