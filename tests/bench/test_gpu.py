"""The GPU benchmark on a CPU at toy size, with nothing installed but what it says it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABSENT = "psutil,rich,plotly,trl,datasets,httpx,typer,fastapi,sqlmodel,celery,redis,pytest"
RUN = """
import importlib.abc, runpy, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = ["bench.gpu", *sys.argv[2:]]
runpy.run_module("bench.gpu", run_name="__main__")
"""


@pytest.mark.slow
def test_it_runs_with_torch_transformers_and_pydantic_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, ABSENT, "--device", "cpu", "--model", "toy", "--lengths", "ragged-16"]
    done = subprocess.run(
        [*command, "--selections", "2", "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.json")
    report = json.loads(path.read_text())
    assert list(report["gradient_checkpointing_off"]) == ["tokens"]
    assert list(report["gradient_checkpointing_on"]) == ["tokens", "8 sequences", "16 sequences"]
    for rows in [*report["gradient_checkpointing_off"].values(), *report["gradient_checkpointing_on"].values()]:
        assert [row["name"] for row in rows] == ["full", "rpc · linear · ½", "rpc · linear · ¼"]
        assert rows[0]["flops_share"] == 1 and 0.3 < rows[1]["flops_share"] < 0.7
        assert all(row["seconds"] > 0 for row in rows)
    assert "gradient checkpointing on, 8 sequences a micro-batch" in done.stdout
