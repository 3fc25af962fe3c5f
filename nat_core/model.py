"""The policy: a causal language model split into trunk and head, with its tokenizer.

The update runs the trunk on what is kept and the head on selected positions only, so the two are
called apart. That `head(trunk(x))` equals the model's own logits is checked once, on loading.
"""

from __future__ import annotations

import contextlib
import copy
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nat_core.attention import packed_attention
from nat_core.cost import TokenCost
from nat_core.data import Example
from nat_core.errors import Fault, ModelError
from nat_core.layout import Packed, Padded, pack
from nat_core.microbatch import Layout
from nat_core.preflight import DEMO_MODEL, check_model
from nat_core.spec import ModelSpec, ResourcesSpec

DEMO_DIR = Path(__file__).parent / "demo" / "model"


@dataclass
class Policy:
    """A model that completes prompts, its tokenizer and where it runs."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    spec: ModelSpec

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

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
        matrices = [p for p in trunk.parameters() if p.dim() >= 2 and id(p) not in embeddings]
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return TokenCost(
            trunk_weights=sum(p.numel() for p in matrices),
            attention_width=config.num_hidden_layers * config.num_attention_heads * head_dim,
            head_weights=self.model.get_output_embeddings().weight.numel(),
        )

    def autocast(self) -> torch.autocast:
        """The precision of every pass: weights stay float32, so that small learning rates still move them."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.spec.dtype == "bfloat16")

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """Final hidden states [B, L, D] of right-padded ids Long [B, L].

        Padding stands after every real token, where causal attention cannot look, so no mask is needed.
        """
        with self.autocast():
            hidden: Tensor = self.model.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state
        return hidden

    def states(self, tokens: Padded | Packed) -> Tensor:
        """Final hidden states [places, D] of a micro-batch on the policy's device, row after row.

        Needs `attention_for` around this and the backward pass.
        """
        if isinstance(tokens, Padded):
            return self.hidden_states(tokens.input_ids).flatten(0, 1)
        with self.autocast():
            out = self.model.get_decoder()(
                input_ids=tokens.input_ids.unsqueeze(0),
                position_ids=tokens.position_ids.unsqueeze(0),
                segments=tokens.segments,
                use_cache=False,
            )
        hidden: Tensor = out.last_hidden_state[0]
        return hidden

    @cached_property
    def unpackable(self) -> str | None:
        """Why sequences cannot stand end to end with this model, None where they can: two short ones are tried."""
        if self.spec.attn_implementation != "sdpa":
            return f"attention is {self.spec.attn_implementation}"
        vocabulary = self.model.config.get_text_config().vocab_size
        prompt, rest, other = (torch.tensor(ids) % vocabulary for ids in ([1, 2, 3], [4, 5], [6]))
        laid = pack([prompt, prompt], [rest, other])
        try:
            with torch.no_grad():
                with packed_attention(self.model):
                    packed = self.states(laid.tokens.to(self.device)).float()
                alone = self.hidden_states(torch.cat([prompt, other]).unsqueeze(0).to(self.device))[0].float()
        except Exception as error:  # foreign code: attention that takes other arguments raises whatever it likes
            return f"its attention cannot be replaced ({' '.join(str(error).split())[:200]})"
        ours = torch.cat([packed[:3], packed[laid.own[1] :]])
        return None if torch.allclose(ours, alone, rtol=1e-2, atol=1e-2) else "packed and padded passes differ"

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
        if not self.spec.chat_template:
            return list(self.tokenizer.encode(example.prompt))
        system = [{"role": "system", "content": self.spec.system_prompt}] if self.spec.system_prompt else []
        messages = [*system, {"role": "user", "content": example.prompt}]
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def frozen_copy(self) -> Policy:
        """The reference: the same weights as now, never trained."""
        model = copy.deepcopy(self.model).requires_grad_(False).eval()
        return Policy(model, self.tokenizer, self.device, self.spec)


def load_policy(spec: ModelSpec, resources: ResourcesSpec) -> Policy:
    """Load model and tokenizer.

    Raises:
        ModelError: nothing there, not loadable, or a head that natlab cannot call apart from the trunk.
    """
    check_model(spec)
    device = pick_device(resources)
    source = str(DEMO_DIR) if spec.path == DEMO_MODEL else str(Path(spec.path).expanduser())
    arguments: dict[str, Any] = {"revision": spec.revision} if not Path(source).is_dir() else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **arguments)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, attn_implementation=spec.attn_implementation, **arguments
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # foreign files: broken ones raise whatever their readers raise
        reason = " ".join(str(error).split())[:300]
        detail = f"model.path {spec.path} cannot be loaded ({reason}); check the folder or hub id"
        raise ModelError(detail, [Fault("/model/path", detail)]) from error
    if spec.chat_template and tokenizer.chat_template is None:
        detail = f"model.chat_template is true, but the tokenizer of {spec.path} has none; set it to false"
        raise ModelError(detail, [Fault("/model/chat_template", detail)])
    nn.Module.to(model, device)
    model.eval()  # no dropout: old and new log-probabilities must come from the same function
    if spec.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        switch_dropout_off(model)
    policy = Policy(model, tokenizer, device, spec)
    # `generate` would fill what we leave open from the model's own defaults (repetition penalty, min-p, …), and then
    # tokens would not be sampled from the distribution that is trained.
    model.generation_config = GenerationConfig(
        eos_token_id=sorted(policy.eos_ids) or None, pad_token_id=policy.pad_id, bos_token_id=tokenizer.bos_token_id
    )
    _check_head(policy)
    return policy


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
