"""Models that know types and shapes and no numbers, as big as one likes: reading a number raises.

On a GPU that would wait for all that was started before.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedConfig

from nat_core.model import Policy
from nat_core.random_model import random_policy
from nat_core.spec import ModelSpec


class ShapesOnly(FakeTensorMode):
    """While this is open, what is made with a model's weights is shapes; all other tensors are real."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._whole = False  # everything made is shapes: while a model is built, and within an operation on shapes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if not self._whole and not any(isinstance(value, FakeTensor) for value in tree_leaves((args, given))):
            return func(*args, **given)
        with self._of_all():
            return super().__torch_dispatch__(func, types, args, given)

    @contextmanager
    def _of_all(self) -> Iterator[None]:
        before, self._whole = self._whole, True
        try:
            yield
        finally:
            self._whole = before

    def policy(self, config: PreTrainedConfig, model: ModelSpec, dtype: str) -> Policy:
        """A model of this configuration, its rows packed; `dtype` is its weights'."""
        with self._of_all():
            policy = random_policy(config, torch.device("cpu"), model, dtype)
        policy.__dict__["unpackable"] = None  # telling would take numbers
        return policy


class Ledger(TorchDispatchMode):
    """Bytes that tensors made inside hold, and the most that they held."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.held = self.most = 0
        self._storages = {weight.untyped_storage()._cdata: 0 for weight in policy.model.parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, FakeTensor):
                self._take(tensor.untyped_storage())
        return out

    def _take(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._storages:
            self._storages[storage._cdata] = size = storage.nbytes()
            self.held += size
            self.most = max(self.most, self.held)
            weakref.finalize(storage, self._give_back, storage._cdata)

    def _give_back(self, storage: int) -> None:
        self.held -= self._storages.pop(storage)
