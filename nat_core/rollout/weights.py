"""The policy's weights as others read them: with the names and shapes of the model's own files."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from nat_core.model import Policy


def checkpoint_weights(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """Each weight with the name that a checkpoint gives it; one that is used twice (tied embeddings) comes once.

    transformers may hold weights otherwise than files do, experts of a mixture in one tensor for example. Tensors are
    the policy's own wherever the two agree: nothing is copied, and they change with the next step.
    """
    own: dict[str, Tensor] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in policy.model.state_dict().items():  # the first name is that of the embeddings, which files keep
        place = tensor.data_ptr(), tuple(tensor.shape)
        if place not in seen:
            seen.add(place)
            own[name] = tensor
    yield from revert_weight_conversion(policy.model, own).items()
