"""Checkpoints of several ranks: what `nat_core.checkpoint` describes, with the optimizer's tensors in a file a rank.

Any number of ranks can read what any other wrote, one included. The weights are written whole, by the first rank, and
so load as a model anywhere; when they are read, each rank reads its part.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import save_file

from nat_core.checkpoint import Restored, Training, flatten, load_state, small_state
from nat_core.checkpoint_folder import Saved, cleared_on_error, places, put_in_place, seal
from nat_core.parts import SHARDS, read_optimizer, read_parts, write_parts
from nat_core.sharding import ShardedPolicy
from nat_core.weights import save_weights


def save_sharded(folder: Path, training: Training, *, step: int, keep: int, evaluation_due: bool = False) -> Saved:
    """`save_checkpoint` by all ranks together; all of them get its result or its error."""
    ranks = training.policy.ranks
    final, partial = places(folder, step)
    tensors, scalars = flatten(training.optimizer.state_dict())
    parts, numbers = ({n: value for n, value in tensors.items() if bool(value.dim()) == cut} for cut in (True, False))
    state = small_state(training, step, evaluation_due, scalars)

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

    with training.policy.whole() as whole:
        ranks.lead(begin)
    write_parts(partial, parts, final)
    return Saved(final, ranks.lead(finish))


def load_sharded(path: Path, training: Training) -> Restored:
    """`load_checkpoint` by all ranks together, of what any number of ranks wrote."""
    policy = training.policy
    assert isinstance(policy, ShardedPolicy)
    read_parts(path / "model", {name: weight.detach() for name, weight in policy.shards.items()})
    return load_state(path, read_optimizer(path, policy.parameters), training)
