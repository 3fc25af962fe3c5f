"""How the tokens of a micro-batch lie in memory. N tokens, b rows, L longest row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nat_core.kernels import Segments


@dataclass(frozen=True)
class Padded:
    """Rows right-padded to the longest, under causal attention: for models whose attention we cannot replace.

    Attributes:
        input_ids: Long [b, L].
    """

    input_ids: Tensor

    @property
    def num_places(self) -> int:
        """Tokens that the trunk computes, padding included."""
        return self.input_ids.numel()

    @property
    def sequence_lengths(self) -> list[int]:
        """Of what attention runs over."""
        return [self.input_ids.shape[1]] * self.input_ids.shape[0]

    def to(self, device: torch.device) -> Padded:
        return Padded(self.input_ids.to(device))


@dataclass(frozen=True)
class Packed:
    """Rows end to end, completions of one prompt behind a single copy of it.

    Attributes:
        input_ids: Long [N].
        position_ids: Long [N], each token's position in its own sequence, from 0.
        segments: the sequences as attention sees them.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Segments

    @property
    def num_places(self) -> int:
        """Tokens that the trunk computes."""
        return self.input_ids.numel()

    @property
    def sequence_lengths(self) -> list[int]:
        """Of what attention runs over."""
        return self.segments.lengths

    def to(self, device: torch.device) -> Packed:
        return Packed(self.input_ids.to(device), self.position_ids.to(device), self.segments.to(device))


@dataclass(frozen=True)
class Laid:
    """Rows as laid out, and where in the trunk's flat output their predictions are made.

    Attributes:
        tokens: the layout.
        before: Long [b], place of the state that predicts the first token of the completion: the prompt's last.
        own: Long [b], place of the completion's first token; its state predicts the second, and so on.
        num_tokens: tokens without padding.
    """

    tokens: Padded | Packed
    before: Tensor
    own: Tensor
    num_tokens: int


def pad(prompts: list[Tensor], completions: list[Tensor]) -> Laid:
    """Lay out prompt + completion of each row, right-padded: Long [p_i] and Long [n_i], n_i may be 0."""
    inputs = [torch.cat(pair) for pair in zip(prompts, completions, strict=True)]
    ids = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=0)
    own = torch.arange(len(inputs)) * ids.shape[1] + torch.tensor([len(prompt) for prompt in prompts])
    return Laid(Padded(ids), own - 1, own, sum(map(len, inputs)))


def pack(prompts: list[Tensor], completions: list[Tensor]) -> Laid:
    """Lay out prompt + completion of each row end to end; neighbours with one prompt share its copy."""
    ids: list[Tensor] = []
    positions: list[Tensor] = []
    gather: list[Tensor] = []
    scatter: list[Tensor] = []
    before, own, size, place = [], [], 0, 0
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        if row == 0 or not prompt.equal(prompts[row - 1]):
            start = size
            ids.append(prompt)
            positions.append(torch.arange(len(prompt)))
            scatter.append(torch.arange(place, place + len(prompt)))
            size += len(prompt)
        ids.append(completion)
        positions.append(torch.arange(len(prompt), len(prompt) + len(completion)))
        gather += [torch.arange(start, start + len(prompt)), torch.arange(size, size + len(completion))]
        place += len(prompt)
        scatter.append(torch.arange(place, place + len(completion)))
        place += len(completion)
        before.append(start + len(prompt) - 1)
        own.append(size)
        size += len(completion)
    lengths = [len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True)]
    segments = Segments(lengths) if size == place else Segments(lengths, torch.cat(gather), torch.cat(scatter))
    packed = Packed(torch.cat(ids), torch.cat(positions), segments)
    return Laid(packed, torch.tensor(before), torch.tensor(own), size)
