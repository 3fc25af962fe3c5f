"""Two real processes against one: the same gradient and the same completions. Over gloo, on the processor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from nat_core.errors import SpecError
from nat_core.ranks import ALONE, join
from nat_core.spec import ResourcesSpec
from tests.nat_core import gradient_on_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # processes of their own
ROOT = Path(__file__).parents[2]
CASES = gradient_on_ranks.cases()


def torchrun(*arguments: str, size: int = 2) -> None:
    """Run a module as so many ranks, to a good end."""
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), "-m"]
    done = subprocess.run([*argv, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-12000:]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks found."""
    path = tmp_path_factory.mktemp("ranks") / "found.json"
    torchrun("tests.nat_core.gradient_on_ranks", str(path))
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


@cache
def alone(case: str) -> dict[str, Any]:
    return gradient_on_ranks.step(ALONE, case)


def difference(one: Sequence[float], other: Sequence[float]) -> float:
    return float((torch.tensor(one, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)).abs().max())


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_make_the_gradient_of_one(case: str, two: list[dict[str, Any]]) -> None:
    expected, found = alone(case), two[0]["steps"][case]
    assert max(map(abs, expected["gradient"])) > 1e-4
    assert difference(found["gradient"], expected["gradient"]) <= 1e-10
    assert difference(found["weights"], expected["weights"]) <= 1e-10  # of an optimizer whose state is cut, too
    assert found == two[1]["steps"][case]  # and both ranks know all of it


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_report_what_one_reports(case: str, two: list[dict[str, Any]]) -> None:
    # A prompt that two ranks share is computed twice, and padding depends on what stands together.
    of_the_layout = {"tokens/trunk", "tokens/padded", "flops/update", "perf/peak_memory_gib", "perf/rank_imbalance"}
    for one, other in zip(alone(case)["metrics"], two[0]["steps"][case]["metrics"], strict=True):
        assert one.keys() | {"perf/rank_imbalance"} == other.keys()
        assert other["perf/rank_imbalance"] >= 1
        for name in one.keys() - of_the_layout:
            assert other[name] == pytest.approx(one[name], rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("case", [case for case in CASES if "/optimal/" in case])
def test_laws_learn_the_same_on_every_number_of_ranks(case: str, two: list[dict[str, Any]]) -> None:
    expected = alone(case)["law"]
    assert max(expected) > 0
    assert two[0]["steps"][case]["law"] == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_a_rank_without_rows_takes_part(two: list[dict[str, Any]]) -> None:
    (metrics,) = two[0]["steps"]["packed/few/plain"]["metrics"]
    assert 0 < metrics["tokens/selected"] <= 15 and metrics["perf/rank_imbalance"] == 2  # one row: all on one of two


@pytest.mark.parametrize("layout", gradient_on_ranks.LAYOUTS)
def test_two_ranks_sample_what_one_samples(layout: str, two: list[dict[str, Any]]) -> None:
    expected = gradient_on_ranks.completions(ALONE, layout)
    assert len({tuple(ids) for group in expected for ids in group}) > 10
    assert two[0]["completions"][layout] == two[1]["completions"][layout] == expected


def test_a_process_by_itself_joins_nobody_and_is_told_when_it_should() -> None:
    assert join(ResourcesSpec()) is join(ResourcesSpec(gpus=1)) is ALONE
    with pytest.raises(SpecError, match=r"resources\.gpus is 4, but the number of processes is 1; start one for each"):
        join(ResourcesSpec(gpus=4))
