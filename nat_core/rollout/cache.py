"""Keys and values of completions that are sampled side by side, in transformers' own cache.

Rows are left-padded: each one's latest token stands last. b rows, H heads, L places, D head dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """A layer that grows in place: space is reserved ahead, where transformers' own copies everything at each token."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._space: tuple[Tensor, Tensor] | None = None  # keys and values are views of these

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Add states [b, H, l, D]; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._space is None or self._space[0].shape[-2] < end:
            room = end + max(32, end // 4)
            self._space = _moved(self.keys, key_states, room), _moved(self.values, value_states, room)
        for space, states in zip(self._space, (key_states, value_states), strict=True):
            space[..., start:end, :] = states
        return self._show(end)

    def _show(self, end: int) -> tuple[Tensor, Tensor]:
        assert self._space is not None
        self.keys, self.values = (space[..., :end, :] for space in self._space)
        return self.keys, self.values

    def replace(self, keys: Tensor, values: Tensor) -> None:
        """Hold these states [b, H, L, D] from now on."""
        self.keys, self.values, self._space = keys, values, None

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows Long [k] of the batch, in that order; one may come several times."""
        keys, values = self.states
        self.replace(keys[indices], values[indices])

    @property
    def states(self) -> tuple[Tensor, Tensor]:
        """Keys and values [b, H, L, D]."""
        assert self.keys is not None and self.values is not None
        return self.keys, self.values


def _moved(held: Tensor | None, like: Tensor, room: int) -> Tensor:
    """`held` [b, H, L, D] or nothing, at the head of new memory [b, H, room, D]."""
    batch, heads, _, width = like.shape
    space = like.new_empty(batch, heads, room, width)
    if held is not None and held.numel():
        space[..., : held.shape[-2], :] = held
    return space


def serves(model: PreTrainedModel) -> bool:
    """Whether every layer of the model keeps the keys and values of all tokens, and nothing else."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


class RowsCache(DynamicCache):
    """The cache of rows that come and go."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(config=model.config)
        self.rooms = [RoomyLayer() for _ in self.layers]
        self.layers = list(self.rooms)

    def join(self, other: RowsCache) -> None:
        """Put the other's rows behind these, the shorter of the two padded on the left."""
        for ours, theirs in zip(self.rooms, other.rooms, strict=True):
            (keys, values), (more_keys, more_values) = ours.states, theirs.states
            ours.replace(_stacked(keys, more_keys), _stacked(values, more_values))

    def trim(self, places: int) -> None:
        """Take away the first places, which no row uses any more."""
        for layer in self.rooms:
            keys, values = layer.states
            layer.replace(keys[..., places:, :], values[..., places:, :])


def _stacked(first: Tensor, second: Tensor) -> Tensor:
    """[b1, H, L1, D] and [b2, H, L2, D] as [b1 + b2, H, max(L1, L2), D], padded with zeros on the left."""
    length = max(first.shape[-2], second.shape[-2])
    return torch.cat([pad(x, (0, 0, length - x.shape[-2], 0)) for x in (first, second)])
