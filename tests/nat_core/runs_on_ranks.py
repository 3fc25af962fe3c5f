"""One rank of `test_ranks_runs.py`: whole runs in folders that the test looks into.

Run under torchrun as `python -m tests.nat_core.runs_on_ranks FOLDER SPEC`, where FOLDER/one is a run of one process.
"""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from nat_core.checkpoint_folder import list_checkpoints
from nat_core.ranks import Ranks, full, join
from nat_core.reward.sample import Sample, Verdict
from nat_core.reward.table import VERIFIERS, Kind
from nat_core.spec import RunSpec, load_document, parse_run_spec
from nat_core.trainer import Trainer, TrainResult

HALF = 2  # steps after which a run goes on elsewhere


def branch(run: Path, folder: Path) -> None:
    """A run that stands where the other stood after half of its steps."""
    shutil.copytree(list_checkpoints(run / "checkpoints")[0], folder / "checkpoints" / f"step-{HALF:08d}")


def train(spec: RunSpec, folder: Path, ranks: Ranks) -> TrainResult:
    return Trainer(spec, folder, resume=True, ranks=ranks).train()


def stopped_by_the_other(spec: RunSpec, folder: Path, ranks: Ranks, place: str) -> TrainResult:
    """Only the second rank is told to stop, in the middle of the third step's rollout or update."""
    told = threading.Event()
    trainer = Trainer(spec, folder, should_stop=told.is_set, resume=True, ranks=ranks)
    work = getattr(trainer, place)

    def watched(*arguments: Any) -> Any:
        if ranks.rank == 1 and trainer.reporter.step == HALF:
            told.set()
        return work(*arguments)

    setattr(trainer, place, watched)
    return trainer.train()


def loaded(spec: RunSpec, folder: Path, ranks: Ranks) -> dict[str, torch.Tensor]:
    """What a trainer holds once it has gone on from a checkpoint, whole: weights, and the optimizer's tensors."""
    trainer = Trainer(spec, folder, resume=True, ranks=ranks)
    trainer.set_up()
    assert trainer._restore() == HALF
    found = {
        f"{place}.{key}": full(value)
        for place, entries in trainer.optimizer.state_dict()["state"].items()
        for key, value in entries.items()
    }
    with trainer.policy.whole() as whole:
        weights = {name: weight.detach().clone() for name, weight in whole.model.named_parameters()}
    trainer._closing.close()
    trainer.reporter.close()
    return found | weights


def failing_on_the_other(spec: RunSpec, folder: Path, ranks: Ranks) -> None:
    """Only the second rank has a completion that cannot be scored; the last thing that the two do together."""

    def broken(_: Sample) -> Verdict:
        raise ZeroDivisionError("no units")

    if ranks.rank == 1:
        VERIFIERS["exact_match"] = Kind(lambda _: broken)
    assert train(spec, folder, ranks).outcome == "failed"


def main(folder: Path, path: Path) -> None:
    spec, ranks = parse_run_spec(load_document(path)), join(parse_run_spec({}).resources)
    assert train(spec, folder / "two", ranks) == TrainResult("succeeded", spec.steps)
    for place in ("roll_out", "_update"):
        assert stopped_by_the_other(spec, folder / "stopped", ranks, place) == TrainResult("stopped", HALF)
    assert train(spec, folder / "stopped", ranks) == TrainResult("succeeded", spec.steps)
    ranks.lead(lambda: branch(folder / "one", folder / "one, then two"))
    state = loaded(spec, folder / "one, then two", ranks)
    if ranks.leads:
        torch.save(state, folder / "loaded.pt")
    assert train(spec, folder / "one, then two", ranks) == TrainResult("succeeded", spec.steps)
    failing_on_the_other(spec, folder / "failed", ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
