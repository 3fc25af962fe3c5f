"""`natlab demo`, as `make demo` runs it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.support import natlab, processes_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_demo_trains_four_budgets_prints_the_comparison_and_leaves_nothing(tmp_path: Path) -> None:
    with natlab(tmp_path / "home", "demo", "--steps", "4", "--exit") as demo:
        status = demo.process.wait(400)
    printed = "\n".join(demo.lines)
    assert status == 0, printed + demo.logs()
    labels = ["full", "rpc · linear · ½", "urs · ½", "truncate · ½ (biased)"]
    header = next(index for index, line in enumerate(demo.lines) if line.startswith("Budget "))
    rows = demo.lines[header + 1 : header + 5]
    assert [row[: len(label)] for row, label in zip(rows, labels, strict=True)] == labels
    assert all(row.count("%") >= 2 for row in rows), printed  # accuracy and share trained on, at least
    assert f"{demo.url}/experiments/exp-" in printed
    for label in ("full", "rpc · linear · ½", "urs · ½", "truncate · ½"):
        assert any(line.startswith(label) and "succeeded 4/4" in line for line in demo.lines), printed
    assert processes_of(tmp_path / "home") == []


def test_demo_serves_on_after_the_table_until_ctrl_c(tmp_path: Path) -> None:
    # --steps 1: what matters here is what happens after the table.
    with natlab(tmp_path / "home", "demo", "--steps", "1") as demo:
        demo.wait_for_line(r"^Serving until Ctrl-C", timeout_s=400)
        with demo.connect() as lab:
            [experiment] = lab.experiments()
        assert experiment.state == "succeeded"
        assert demo.end(signal.SIGINT) == 130
    assert processes_of(tmp_path / "home") == []
