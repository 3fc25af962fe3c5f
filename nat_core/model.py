"""The policy: a causal language model split into trunk and head, with its tokenizer.

The update runs the trunk on what is kept and the head on selected positions only, so the two are
called apart. That `head(trunk(x))` equals the model's own logits is checked once, on loading.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nat_core import adapter, packing, quantized
from nat_core.attention import packed_attention
from nat_core.chat import check_template, prompt_ids
from nat_core.cost import TokenCost
from nat_core.cost.splitting import Layout
from nat_core.data import Example
from nat_core.errors import Fault, ModelError
from nat_core.layout import Packed, Padded
from nat_core.preflight import DEMO_MODEL, check_model
from nat_core.ranks import ALONE, Ranks
from nat_core.spec import ModelSpec, ResourcesSpec

_ATTENTION_DROPOUT = "attention_dropout"
DEMO_DIR = Path(__file__).parent / "demo" / "model"
T = TypeVar("T")


@dataclass
class Policy:
    """A model that completes prompts, its tokenizer and where it runs."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    spec: ModelSpec
    ranks: Ranks = ALONE

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained: every weight, or the adapters'."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    @property
    def num_parameters(self) -> int:
        """All weights, trained or not."""
        return sum(map(quantized.size, self.model.parameters()))

    @property
    def eos_ids(self) -> set[int]:
        """Tokens that end a completion: the model's and the tokenizer's."""
        configured = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ids = configured if isinstance(configured, list) else [configured]
        return {int(i) for i in [*ids, self.tokenizer.eos_token_id] if i is not None}

    @property
    def pad_id(self) -> int:
        """Padding token: masked or causal-invisible wherever it stands, so any id will do."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else min(self.eos_ids, default=0)

    @cached_property
    def token_cost(self) -> TokenCost:
        """What a token costs to train on, counted from the weights: matrices, embeddings left out."""
        trunk, config = self.model.get_decoder(), self.model.config.get_text_config()
        embeddings = {id(module.weight) for module in trunk.modules() if isinstance(module, nn.Embedding)}
        matrices = [p for p in trunk.parameters() if quantized.is_matrix(p) and id(p) not in embeddings]
        adapters = adapter.weights(self.model).values() if adapter.is_adapted(self.model) else ()
        num_adapter = sum(weight.numel() for weight in adapters)
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return TokenCost(
            trunk_weights=sum(map(quantized.size, matrices)) - num_adapter,
            attention_width=config.num_hidden_layers * config.num_attention_heads * head_dim,
            head_weights=self.model.get_output_embeddings().weight.numel(),
            adapter_weights=num_adapter,
        )

    def run(self, work: Callable[[], T]) -> T:
        """A pass of the update over trunk and head, without its backward pass; the only place for one."""
        return work()

    def on_passes(self, in_step: Callable[[], None], apart: Callable[[], None]) -> None:
        """Have these called before every pass: `in_step` where all ranks do the same pass, `apart` elsewhere."""
        self.model.get_decoder().register_forward_pre_hook(lambda *_: apart())

    def whole(self) -> AbstractContextManager[Policy]:
        """The policy to sample with: ranks need not keep step while this is open."""
        return contextlib.nullcontext(self)

    def autocast(self) -> torch.autocast:
        """The precision of every pass: weights stay float32, so that small learning rates still move them."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.spec.dtype == "bfloat16")

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """Final hidden states [B, L, D] of right-padded ids Long [B, L].

        Padding stands after every real token, where causal attention cannot look, so no mask is needed.
        """
        return self._trunk(input_ids=input_ids)

    def states(self, tokens: Padded | Packed) -> Tensor:
        """Final hidden states [places, D] of a micro-batch on the policy's device, row after row.

        Needs `attention_for` around this and the backward pass.
        """
        if isinstance(tokens, Padded):
            return self.hidden_states(tokens.input_ids).flatten(0, 1)
        return self._trunk(
            input_ids=tokens.input_ids.unsqueeze(0),
            position_ids=tokens.position_ids.unsqueeze(0),
            segments=tokens.segments,
        )[0]

    def _trunk(self, **inputs: Any) -> Tensor:
        """A pass of all layers: Float [B, L, D]."""
        with self.autocast():
            hidden: Tensor = self.model.get_decoder()(**inputs, use_cache=False).last_hidden_state
        return hidden

    @cached_property
    def unpackable(self) -> str | None:
        """Why sequences cannot stand end to end with this model, None where they can: two short ones are tried."""
        return packing.refusal(self)

    def attention_for(self, tokens: Padded | Packed) -> AbstractContextManager[None]:
        """What passes over these tokens need around them, backward included."""
        return packed_attention(self.model) if isinstance(tokens, Packed) else contextlib.nullcontext()

    @property
    def layout(self) -> Layout:
        """How micro-batches are laid out for this model."""
        return "padded" if self.unpackable else "packed"

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [S, V] of hidden states [S, D], soft-capped where the model does that."""
        with self.autocast():
            logits: Tensor = self.model.get_output_embeddings()(hidden)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return torch.tanh(logits / cap) * cap if cap else logits

    def encode(self, example: Example) -> list[int]:
        """Token ids of a prompt, in the chat template where the spec says so."""
        return prompt_ids(self.tokenizer, self.spec, example.prompt)

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def reference(self) -> Policy:
        """The policy as it is before training, never trained: a copy, or this model with its adapters switched off."""
        if adapter.is_adapted(self.model):
            return _WithoutAdapter(self.model, self.tokenizer, self.device, self.spec)
        model = copy.deepcopy(self.model).requires_grad_(False).eval()
        return Policy(model, self.tokenizer, self.device, self.spec)


class _WithoutAdapter(Policy):
    """The model that an adapter was put into, as it was: the same weights in memory, another function."""

    def _trunk(self, **inputs: Any) -> Tensor:
        with adapter.switched_off(self.model):
            return super()._trunk(**inputs)


def load_policy(spec: ModelSpec, resources: ResourcesSpec) -> Policy:
    """Load model and tokenizer.

    Raises:
        ModelError: nothing there, not loadable, or a head that natlab cannot call apart from the trunk.
    """
    check_model(spec)
    device = pick_device(resources)
    model, tokenizer = _read(spec, device)
    check_template(tokenizer, spec)
    nn.Module.to(model, device)
    model.eval()  # no dropout: old and new log-probabilities must come from the same function
    if spec.gradient_checkpointing:
        checkpoint_layers(model)
    if spec.lora.r is not None:
        adapter.attach(model, spec)
    policy = Policy(model, tokenizer, device, spec)
    # `generate` would fill what we leave open from the model's own defaults (repetition penalty, min-p, …), and then
    # tokens would not be sampled from the distribution that is trained.
    model.generation_config = GenerationConfig(
        eos_token_id=sorted(policy.eos_ids) or None, pad_token_id=policy.pad_id, bos_token_id=tokenizer.bos_token_id
    )
    _check_head(policy)
    return policy


def source_of(spec: ModelSpec) -> tuple[str, dict[str, Any]]:
    """Where a model is, and what `from_pretrained` has to be told beside that. Code that comes with it is never run."""
    source = str(DEMO_DIR) if spec.path == DEMO_MODEL else str(Path(spec.path).expanduser())
    pinned = {} if Path(source).is_dir() else {"revision": spec.revision or "main"}
    return source, {"trust_remote_code": False, **pinned}


def _read(spec: ModelSpec, device: torch.device) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    source, arguments = source_of(spec)
    quantization = quantized.loading_arguments(spec, device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **arguments)
        model = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=torch.float32,
            attn_implementation=spec.attn_implementation,
            use_safetensors=True,  # never what is pickled
            **arguments,
            **quantization,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # foreign files: broken ones raise whatever their readers raise
        reason = " ".join(str(error).split())[:300]
        detail = f"model.path {spec.path} cannot be loaded ({reason}); check the folder or hub id"
        raise ModelError(detail, [Fault("/model/path", detail)]) from error
    quantized.keep_trainable(model)
    return model, tokenizer


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Recompute activations in the backward pass."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    # transformers lets the embeddings' output ask for a gradient, which checkpointing that is not reentrant does not
    # need: behind frozen weights it would be computed for nobody.
    model.disable_input_require_grads()
    model.train()
    switch_dropout_off(model)


def pick_device(resources: ResourcesSpec) -> torch.device:
    """The device that `resources.device` names.

    Raises:
        ModelError: `cuda` is asked for and not there.
    """
    available = torch.cuda.is_available()
    if resources.device == "cuda" and not available:
        detail = "resources.device is cuda, but torch sees no GPU; set it to auto or cpu"
        raise ModelError(detail, [Fault("/resources/device", detail)])
    return torch.device("cuda" if available and resources.device != "cpu" else "cpu")


def switch_dropout_off(model: nn.Module) -> None:
    """Old and new log-probabilities must come from the same function, also in training mode."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
        # Attention layers hand this to their kernel, whatever their dropout modules do.
        if isinstance(getattr(module, _ATTENTION_DROPOUT, None), float):
            setattr(module, _ATTENTION_DROPOUT, 0.0)


def _check_head(policy: Policy) -> None:
    """Some models scale or shift their logits after the head; training through ours would be wrong there."""
    ids = torch.arange(4, device=policy.device).unsqueeze(0) % policy.model.config.get_text_config().vocab_size
    with torch.no_grad(), policy.autocast():
        own = policy.model(input_ids=ids, use_cache=False).logits[0].float()
        ours = policy.head(policy.hidden_states(ids)[0]).float()
    if own.shape != ours.shape or not torch.allclose(own, ours, rtol=1e-2, atol=1e-2 * float(own.abs().max())):
        detail = (
            f"model.path {policy.spec.path} makes its logits in a way natlab does not know "
            f"({type(policy.model).__name__}); choose another model"
        )
        raise ModelError(detail, [Fault("/model/path", detail)])
