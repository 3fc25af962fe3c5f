"""Drawing tokens: one random stream a completion, so that what is drawn depends on nothing that stands beside it.

Not on the batch it is sampled in, nor on when its neighbours end. Cells of an experiment that share weights and prompts
sample the same completions, which pairs them more closely. b rows, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def uniforms(seed: int, completion: int, count: int) -> Tensor:
    """The random numbers of one completion: Double [count] in [0, 1), one a token.

    Philox is a keyed generator: streams of different keys are independent, and none has to be drawn to get to another.
    """
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, completion], dtype=np.uint64)))
    return torch.from_numpy(generator.random(count))


def draw(logits: Tensor, temperature: float | None, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens Long [b] of logits [b, V], and their log-probabilities Float [b] in the distribution drawn from.

    A token is where the running total of the probabilities passes the random number. In double precision: in single
    precision rare tokens of a large vocabulary would be lost in the total.

    Args:
        temperature: None takes the likeliest token, with the log-probability that it has at temperature 1.
        uniform: Double [b] in [0, 1).
    """
    logprobs = torch.log_softmax(logits.float() / (1.0 if temperature is None else temperature), dim=-1)
    tokens = logprobs.argmax(-1) if temperature is None else _inverse(logprobs, uniform)
    return tokens, logprobs.gather(1, tokens.unsqueeze(1)).squeeze(1)


def _inverse(logprobs: Tensor, uniform: Tensor) -> Tensor:
    total = logprobs.double().exp_().cumsum(-1)
    # Below the whole total, which rounding might reach; then some token with a probability stands beyond the aim.
    aim = torch.minimum(uniform * total[:, -1], torch.nextafter(total[:, -1], torch.zeros_like(uniform)))
    return torch.searchsorted(total, aim.unsqueeze(1), right=True).squeeze(1)
