"""Whether a model's sequences can stand end to end, tried out on two short ones; and what was chosen, for the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from nat_core.attention import noting_windows, packed_attention
from nat_core.kernels import Heads, Segments, kernel_for
from nat_core.layout import Packed, pack

if TYPE_CHECKING:
    from nat_core.model import Policy

_HALF = (torch.bfloat16, torch.float16)


def refusal(policy: Policy) -> str | None:
    """Why sequences cannot stand end to end with this model, None where they can."""
    if policy.spec.attn_implementation != "sdpa":
        return f"attention is {policy.spec.attn_implementation}"
    vocabulary = policy.model.config.get_text_config().vocab_size
    prompt, long, short = (torch.arange(a, b) % vocabulary for a, b in ((1, 4), (4, 12), (12, 13)))
    laid = pack([prompt, prompt], [long, short])
    assert isinstance(laid.tokens, Packed)
    try:
        with noting_windows() as windows:
            packed = _states(policy, laid.tokens)
        if windows and len([window for window in windows if window is not None]) < _num_windowed(policy):
            return "windows of its layers stand in its mask alone"
        with torch.no_grad():
            alone = policy.hidden_states(torch.cat([prompt, short]).unsqueeze(0).to(policy.device))[0].float()
        ours = torch.cat([packed[:3], packed[laid.own[1] :]])
        if torch.allclose(ours, alone, rtol=1e-2, atol=1e-2):
            return None
        if _rounds(policy) and _gap(ours, alone) < _gap(_looking_across(policy, laid.tokens), alone) / 4:
            return None
    except Exception as error:  # foreign code: attention that takes other arguments raises whatever it likes
        return f"its attention cannot be replaced ({' '.join(str(error).split())[:200]})"
    return "packed and padded passes differ"


def in_words(policy: Policy) -> str:
    """How micro-batches are laid out and attended to, and why, for the log."""
    why = policy.unpackable
    if why:
        return f"rows right-padded and sorted by length, because {why}"
    kernel = attention_kernel(policy)
    return f"rows packed without padding, a group's prompt once; attention over sequences {kernel}"


def attention_kernel(policy: Policy) -> str:
    """Which of `nat_core.kernels.KERNELS` packed passes of this policy take."""
    config: Any = policy.model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    keys = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dtype = torch.bfloat16 if policy.spec.dtype == "bfloat16" else policy.parameters[0].dtype
    return kernel_for(policy.device, dtype, Heads(config.num_attention_heads, keys, width, width))


def _num_windowed(policy: Policy) -> int:
    """Layers that see less than all tokens before: two short sequences would not show it."""
    return sum(DynamicCache(config=policy.model.config).is_sliding)


def _states(policy: Policy, tokens: Packed) -> Tensor:
    with torch.no_grad(), packed_attention(policy.model):
        return policy.states(tokens.to(policy.device)).float()


def _rounds(policy: Policy) -> bool:
    """Whether passes are in a type whose rounding, layer upon layer, may come to more than a hundredth."""
    return policy.spec.dtype == "bfloat16" or any(weight.dtype in _HALF for weight in policy.model.parameters())


def _looking_across(policy: Policy, tokens: Packed) -> Tensor:
    """States of the prompt and the last row as they would be if rows saw those before them: what packing must avoid.

    Rounding is small beside it, however deep the model.
    """
    merged = Packed(tokens.input_ids, tokens.position_ids, Segments([tokens.num_places]))
    states = _states(policy, merged)
    return torch.cat([states[:3], states[-1:]])


def _gap(states: Tensor, expected: Tensor) -> float:
    """Of the last token alone, which others could have reached."""
    return float((states[-1] - expected[-1]).norm() / expected[-1].norm())
