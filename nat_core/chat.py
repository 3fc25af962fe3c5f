"""A prompt as the model gets it: as it is, or as a user's message in the tokenizer's chat template."""

from __future__ import annotations

import re
from typing import Any

from transformers import PreTrainedTokenizerBase

from nat_core.errors import Fault, ModelError
from nat_core.spec import ModelSpec


def prompt_ids(tokenizer: PreTrainedTokenizerBase, spec: ModelSpec, prompt: str) -> list[int]:
    """Token ids of a prompt, in the chat template where the spec says so."""
    if not spec.chat_template:
        return list(tokenizer.encode(prompt))
    system = [{"role": "system", "content": spec.system_prompt}] if spec.system_prompt else []
    messages = [*system, {"role": "user", "content": prompt}]
    words: dict[str, Any] = dict(spec.chat_template_kwargs)
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **words)
    return list(tokenizer.encode(text, add_special_tokens=False))


def check_template(tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> None:
    """Raise a `ModelError` where the tokenizer has no template, or one that a given word says nothing to."""
    if not spec.chat_template:
        return
    if tokenizer.chat_template is None:
        detail = f"model.chat_template is true, but the tokenizer of {spec.path} has none; set it to false"
        raise ModelError(detail, [Fault("/model/chat_template", detail)])
    template = tokenizer.get_chat_template()
    unheard = next((name for name in spec.chat_template_kwargs if not re.search(rf"\b{name}\b", template)), None)
    if unheard is not None:
        detail = (
            f"model.chat_template_kwargs holds {unheard}, but the chat template of {spec.path} never asks for it; "
            "correct its spelling or remove it"
        )
        raise ModelError(detail, [Fault("/model/chat_template_kwargs", detail)])
