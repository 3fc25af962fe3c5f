"""The model section of a spec: which weights, in what precision, what of them is trained, how a prompt becomes a chat.

Field names follow TRL's `ModelConfig` and `GRPOConfig` where they have one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nat_core.spec.section import Section

NF4 = "nf4"

_TEMPLATE_ARGUMENTS = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "self",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
"""Names that `apply_chat_template` takes itself, and those that natlab gives it."""

TemplateWord = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
TemplateValue = bool | int | float | Annotated[str, Field(max_length=20_000)]


class LoraSpec(Section):
    """Adapters (LoRA): two thin matrices beside each layer's own are trained, and the model's weights stay."""

    r: int | None = Field(
        None, ge=1, le=4096, description="Rank of the adapters; not set: no adapters, every weight is trained."
    )
    alpha: int = Field(32, ge=1, le=65_536, description="What an adapter adds is scaled by `alpha` / `r`.")
    dropout: Literal[0] = Field(
        0, description="Always 0: dropout would make the policy that is trained another one than the one that samples."
    )
    target_modules: str = Field(
        "all-linear",
        max_length=2000,
        pattern=r"^[\w-]+(\s*,\s*[\w-]+)*$",
        description="`all-linear` for every linear layer but the head, or names of layers with commas between: "
        "`q_proj, v_proj`.",
    )
    quantize: Literal["none", "nf4"] = Field(
        "none",
        description="`nf4`: the model's own weights are held in 4 bits (QLoRA), by bitsandbytes: `natlab[qlora]`.",
    )

    @field_validator("dropout", mode="before")
    @classmethod
    def _no_dropout(cls, dropout: Any) -> Any:
        if dropout == 0 and not isinstance(dropout, bool):
            return 0
        raise ValueError(
            f"model.lora.dropout is {str(dropout)[:40]}, but it can be 0 only: with dropout the policy that is trained "
            "is another one than the one that samples; remove it"
        )

    @model_validator(mode="after")
    def _quantized_weights_are_not_trained(self) -> LoraSpec:
        if self.quantize != "none" and self.r is None:
            raise ValueError(
                f"model.lora.quantize is {self.quantize}, but weights of 4 bits cannot be trained themselves; "
                "set model.lora.r"
            )
        return self

    @property
    def modules(self) -> list[str] | None:
        """The names of the layers; None for every linear one."""
        if self.target_modules.lower() == "all-linear":
            return None
        return [name.strip() for name in self.target_modules.split(",")]


class ModelSpec(Section):
    """The policy to train."""

    path: str = Field(
        "demo",
        min_length=1,
        max_length=500,
        description="`demo` for the built-in 0.8M-parameter model, a directory that transformers can load, "
        "or a hub id `owner/name`.",
    )
    revision: str | None = Field(
        None, max_length=100, description="Hub revision (branch, tag or commit) to pin; ignored for directories."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Type of the passes; what is trained and its optimizer stay float32, so that small learning rates "
        "move it.",
    )
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        "sdpa", description="Attention kernel that transformers uses."
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute layer activations in the backward pass: less memory, about a third more time."
    )
    lora: LoraSpec = Field(default_factory=LoraSpec)
    chat_template: bool = Field(
        False, description="Wrap each prompt as a user message in the tokenizer's chat template."
    )
    system_prompt: str | None = Field(
        None, max_length=20_000, description="System message for the chat template; needs `chat_template: true`."
    )
    chat_template_kwargs: dict[TemplateWord, TemplateValue] = Field(
        default={},
        max_length=32,
        description="What else the chat template is told, by name: `enable_thinking: false` for Qwen3; needs "
        "`chat_template: true`.",
    )

    @field_validator("chat_template_kwargs", mode="before")
    @classmethod
    def _for_the_template(cls, words: Any) -> Any:
        for name, value in words.items() if isinstance(words, dict) else ():
            if name in _TEMPLATE_ARGUMENTS:
                raise ValueError(f"model.chat_template_kwargs holds {name}, which natlab decides itself; remove it")
            if not isinstance(value, bool | int | float | str):
                raise ValueError(
                    f"model.chat_template_kwargs.{str(name)[:64]} is {str(value)[:40]!r}, but it is a truth value, a "
                    "number or a text; change it to fit"
                )
        return words

    @model_validator(mode="after")
    def _needs_the_template(self) -> ModelSpec:
        for name, value in (("system_prompt", self.system_prompt), ("chat_template_kwargs", self.chat_template_kwargs)):
            if value not in (None, {}) and not self.chat_template:
                raise ValueError(f"model.{name} is set, but only a chat template has one; set model.chat_template")
        return self
