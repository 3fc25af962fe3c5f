"""The expected memory of one update step, by part."""

from __future__ import annotations

from nat_core.cost.shape import ModelShape
from nat_core.spec import ModelSpec, RunSpec

_GIB = 1024**3
COPIES = "bfloat16 copies"
_NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8  # of a weight: its 4 bits, and its part of a scale of a scale


def memory_gib(spec: RunSpec, shape: ModelShape, count: int, tokens: float, selected: float) -> dict[str, float]:
    """GiB of tensors at a step's peak, by part; parts that take nothing are left out. Activations and logits are
    what comes on top of the rest.

    Args:
        count: of micro-batches.
        tokens: of the largest, that go through the layers.
        selected: of the largest, that go through the head.
    """
    trained = 4 * _trained(spec.model, shape)  # in float32, whatever the passes run in
    weights = trained if spec.model.lora.r is None else trained + _frozen(spec.model, shape)
    copied = spec.objective.beta > 0 and spec.model.lora.r is None  # adapters off, the same model is the reference
    head, passes = _head(spec, shape, selected), passes_bytes(spec, shape, tokens, selected)
    # From the second micro-batch on all gradients stand beside the activations; those of a single one take their place
    # as they go.
    on_top = passes if count > 1 else max(0.0, passes - trained)
    parts = {
        "weights": weights,
        "gradients": trained,
        "optimizer": 2 * trained,
        "reference": weights if copied else 0,
        COPIES: copies(spec.model, shape),
        "activations": max(0.0, on_top - head),
        "logits": min(head, on_top),
    }
    return {name: size / _GIB for name, size in parts.items() if size or name == "activations"}


def copies(model: ModelSpec, shape: ModelShape) -> float:
    """Bytes of the matrices in bfloat16: the forward pass makes them of the weights, the backward pass needs them.

    One layer's where layers are made again. Matrices beside adapters are held so from the start.
    """
    if model.dtype != "bfloat16" or model.lora.r is not None:
        return 0
    layers = shape.token_cost.trunk_weights
    return 2 * (layers / shape.layers if model.gradient_checkpointing else layers)


def passes_bytes(spec: RunSpec, shape: ModelShape, tokens: float, selected: float, wide: int = 4) -> float:
    """Bytes that a micro-batch's passes take at their peak, weights and gradients apart.

    Args:
        tokens: that go through the layers.
        selected: that go through the head.
        wide: bytes of a weight, and so of what goes from layer to layer and of gradients.
    """
    layer = tokens * wide * (3 * shape.intermediate + 4 * shape.hidden)  # gradients on their way through one
    if spec.model.gradient_checkpointing:
        layer += tokens * _layer_bytes(spec.model, shape)  # in full while it is made again
    # The head is through when the layers go back.
    return activations(spec.model, shape, tokens, wide) + max(_head(spec, shape, selected, wide), layer)


def activations(model: ModelSpec, shape: ModelShape, tokens: float, wide: int = 4) -> float:
    """Bytes that all layers keep from the forward to the backward pass; `wide` as above."""
    layer = wide * shape.hidden if model.gradient_checkpointing else _layer_bytes(model, shape)
    return tokens * layer * shape.layers


def _layer_bytes(model: ModelSpec, shape: ModelShape) -> float:
    """Of a token in one layer, what its backward pass needs."""
    if model.lora.r is None:
        return shape.activation_bytes(model.dtype)
    between = (2 if model.dtype == "bfloat16" else 4) * model.lora.r  # of one matrix of an adapter to the other
    return shape.activation_bytes(model.dtype) + between * len(model.lora.modules or shape.matrices)


def _head(spec: RunSpec, shape: ModelShape, selected: float, wide: int = 4) -> float:
    """Bytes of the head's passes: a chunk's logits beside what the head made of them, then their gradient in their
    place beside that of the head's weights; what the chunks before made of the latter is there all the time.
    """
    logits = 4 * min(selected, spec.resources.logprob_chunk_tokens) * shape.vocabulary
    made, moved = (logits / 2, logits / 2) if spec.model.dtype == "bfloat16" else (0, logits)
    gradient = wide * shape.hidden * shape.vocabulary if spec.model.lora.r is None else 0
    before = gradient if selected > spec.resources.logprob_chunk_tokens else 0
    return before + max(logits + made, moved + gradient)


def _trained(model: ModelSpec, shape: ModelShape) -> int:
    return shape.parameters if model.lora.r is None else shape.adapter_weights(model.lora)


def _frozen(model: ModelSpec, shape: ModelShape) -> float:
    """Bytes of a model beside adapters: matrices as the passes read them or in 4 bits, the rest in float32."""
    head = 0 if shape.tied else shape.hidden * shape.vocabulary
    half = 2 if model.dtype == "bfloat16" else 4
    layers = shape.token_cost.trunk_weights
    matrix = _NF4_BYTES if model.lora.quantize == "nf4" else half
    return layers * matrix + head * half + (shape.parameters - layers - head) * 4
