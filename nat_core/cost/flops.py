"""What training on tokens costs, in floating-point operations. No torch here: numbers and tensors alike.

A matrix weight costs two operations a token forward and four backward, or two where it is frozen: its own gradient is
left out, the gradient that goes on to the layers below is not. Attention of a token at
position n over itself and all before costs 4 n width forward, twice that backward, with width the
heads' total. Norms, activations and rotary embeddings are left out: under a percent at any real size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_FORWARD_AND_BACKWARD = 3  # the backward pass makes two products where the forward makes one
_FROZEN = 2  # and one where nobody wants the weights' gradient


@dataclass(frozen=True)
class TokenCost:
    """Operations of one token's forward and backward pass through a model.

    Attributes:
        trunk_weights: matrix weights that every token meets in the layers.
        attention_width: heads x head dimension, summed over the layers.
        head_weights: weights of the output head, which only selected tokens meet.
        adapter_weights: of low-rank adapters beside the layers' matrices, which are then frozen, as is the head; 0
            where every weight is trained.
    """

    trunk_weights: int
    attention_width: int
    head_weights: int
    adapter_weights: int = 0

    @property
    def _passes(self) -> int:
        """Products that a weight of the model itself takes part in."""
        return _FROZEN if self.adapter_weights else _FORWARD_AND_BACKWARD

    def trunk(self, length: Any) -> Any:
        """FLOPs of the first `length` tokens of a sequence in the layers; a number or a tensor of them."""
        return self.linear(length) + self.attention(length)

    def linear(self, num_tokens: Any) -> Any:
        """FLOPs of the layers' matrices on so many tokens."""
        products = self._passes * self.trunk_weights + _FORWARD_AND_BACKWARD * self.adapter_weights
        return 2 * products * num_tokens

    def attention(self, length: Any) -> Any:
        """FLOPs of causal attention over a sequence."""
        return _FORWARD_AND_BACKWARD * 2 * self.attention_width * length * (length + 1)

    def head(self, num_selected: Any) -> Any:
        """FLOPs of the head on selected tokens, its recomputation in the backward pass not counted."""
        return self._passes * 2 * self.head_weights * num_selected

    def of_completions(self, prompt: Any, sharers: Any = 1) -> Callable[[Any], Any]:
        """FLOPs of training on completions as far as a position, the prompt counted with the first token.

        Args:
            prompt: prompt lengths; what comes back takes positions that broadcast with them.
            sharers: completions that share one pass over their prompt, and so its cost.
        """

        def total(position: Any) -> Any:
            first = position.clamp(max=1.0)
            own = self.trunk(prompt + position) - self.trunk(prompt)
            again = self.linear(prompt) / sharers + self.attention(prompt)
            return own + self.head(position) + first * again

        return total
