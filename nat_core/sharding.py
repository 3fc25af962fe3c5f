"""A policy whose weights, gradients and optimizer state are cut over the ranks: FSDP2, a group a layer.

Passes of the update gather a layer's weights as they reach it and drop them after it; gradients are summed over the
ranks (the loss's denominators count the whole step, so nothing is divided) and kept as shards. Ranks meet at every
layer, so all must run as many passes. Rollouts and evaluations run on a whole copy instead, which is filled for as long
as they take: then ranks need not wait for each other at every token.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import PreTrainedModel

from nat_core.model import Policy
from nat_core.ranks import Ranks, full

T = TypeVar("T")


class Passes(nn.Module):
    """The root that FSDP hooks into: trunk and head are called apart, and both need the weights that no layer owns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Any]) -> Any:
        return work()


@dataclass
class ShardedPolicy(Policy):
    """Attributes:
    passes: the root of the sharded model.
    shadow: the policy on whole weights, empty unless `whole` fills it.
    shards: every weight by name, as this rank holds it.
    before_pass: called before every pass of the update; every rank calls it.
    """

    passes: Any = None
    shadow: Policy | None = None
    shards: dict[str, nn.Parameter] = field(default_factory=dict)
    before_pass: Callable[[], None] = lambda: None

    @property
    def parameters(self) -> list[nn.Parameter]:
        # Not the model's own: between a pass and its backward some of those are the whole weights.
        return [parameter for parameter in self.shards.values() if parameter.requires_grad]

    def run(self, work: Callable[[], T]) -> T:
        self.before_pass()
        found: T = self.passes(work)
        if not torch.is_grad_enabled():
            self._drop_weights()
        return found

    def on_passes(self, in_step: Callable[[], None], apart: Callable[[], None]) -> None:
        assert self.shadow is not None
        self.before_pass = in_step
        self.shadow.on_passes(in_step, apart)

    def _drop_weights(self) -> None:
        """After a pass without a backward pass, which would do this."""
        if hasattr(self.passes, "reset_iter_state"):  # torch 2.13; before, a list of the layers passed goes on growing
            self.passes.reset_iter_state()
        else:
            self.passes.reshard()

    @contextmanager
    def whole(self) -> Iterator[Policy]:
        assert self.shadow is not None
        room = dict(self.shadow.model.named_parameters())
        try:
            for name, shard in self.shards.items():
                room[name].data = full(shard.detach())
            yield self.shadow
        finally:
            for parameter in room.values():
                parameter.data = parameter.new_empty(0)


def shard(policy: Policy, ranks: Ranks) -> Policy:
    """The same policy cut over the ranks, as it is where there is one; the one given must not be used after."""
    if ranks.alone:
        return policy
    known = {"unpackable": policy.unpackable, "token_cost": policy.token_cost}  # asked while weights are whole
    shadow = Policy(_empty_copy(policy.model), policy.tokenizer, policy.device, policy.spec)
    passes = _fully_shard(policy.model, init_device_mesh(policy.device.type, (ranks.size,)))
    own = {item.name: getattr(policy, item.name) for item in fields(policy)}
    sharded = ShardedPolicy(**own | {"ranks": ranks}, passes=passes, shadow=shadow)
    sharded.shards = dict(policy.model.named_parameters())
    for made in (sharded, shadow):
        made.__dict__.update(known)
    return sharded


def _empty_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, every weight of it a tensor of no elements."""
    empty = {id(p): nn.Parameter(p.new_empty(0), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, empty)


def _fully_shard(model: PreTrainedModel, mesh: Any) -> FSDPModule:
    root: Any = Passes(model)
    modules: list[Any] = [*getattr(model.get_decoder(), "layers", []), root]
    for module in modules:
        fully_shard(module, mesh=mesh)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # else a factor needs an operation that only NCCL has
    return root  # type: ignore[no-any-return]
