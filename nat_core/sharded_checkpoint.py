"""Checkpoints of several ranks: what `nat_core.checkpoint` describes, with the optimizer's tensors in a file a rank.

Any number of ranks can read what any other wrote, one included. The weights are written whole, by the first rank, and
so load as a model anywhere; when they are read, each rank reads its part.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from nat_core.checkpoint import (
    Restored,
    Saved,
    cleared_on_error,
    flatten,
    load_small_state,
    places,
    put_in_place,
    small_state,
    unflatten,
)
from nat_core.manifest import seal
from nat_core.parts import SHARDS, read_optimizer, read_parts, write_parts
from nat_core.sharding import ShardedPolicy
from nat_core.token_selection import GradientMass
from nat_core.weights import save_weights


def save_sharded(
    folder: Path,
    policy: ShardedPolicy,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
    law_state: GradientMass,
    *,
    step: int,
    keep: int,
    evaluation_due: bool = False,
) -> Saved:
    """`save_checkpoint` by all ranks together; all of them get its result or its error."""
    ranks = policy.ranks
    final, partial = places(folder, step)
    tensors, scalars = flatten(optimizer.state_dict())
    parts, numbers = ({n: value for n, value in tensors.items() if bool(value.dim()) == cut} for cut in (True, False))
    state = small_state(policy, step, evaluation_due, scalars, schedule, generator, law_state)

    def begin() -> None:
        shutil.rmtree(partial, ignore_errors=True)
        with cleared_on_error(partial, final):
            (partial / SHARDS).mkdir(parents=True)
            save_weights(whole, partial / "model")
            save_file(numbers, partial / "optimizer.safetensors")

    def finish() -> int:
        with cleared_on_error(partial, final):
            size = seal(partial, state)
            put_in_place(partial, final, keep)
        return size

    with policy.whole() as whole:
        ranks.lead(begin)
    write_parts(partial, parts, final)
    return Saved(final, ranks.lead(finish))


def load_sharded(
    path: Path,
    policy: ShardedPolicy,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
    law_state: GradientMass,
) -> Restored:
    """`load_checkpoint` by all ranks together, of what any number of ranks wrote."""
    read_parts(path / "model", {name: weight.detach() for name, weight in policy.shards.items()})
    state = json.loads((path / "state.json").read_text())
    optimizer.load_state_dict(unflatten(read_optimizer(path, policy.parameters), state["optimizer"]))
    return load_small_state(state, schedule, generator, law_state)
