"""The sections of a run's spec; model, data, reward, objective and budget have files of their own.

Field names follow TRL's `GRPOConfig` where it has one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nat_core.spec.data import DataSpec
from nat_core.spec.reward import RewardSpec, with_type
from nat_core.spec.section import Section

# --- rollout --------------------------------------------------------------------------------------


class RolloutSpec(Section):
    """How completions are sampled."""

    engine: Literal["hf", "vllm"] = Field(
        "hf", description="`hf`: the trainer's own model, in its process. `vllm`: a vLLM engine, as `vllm_mode` says."
    )
    num_prompts: int = Field(16, ge=1, le=4096, description="Prompts in one rollout batch.")
    num_generations: int = Field(8, ge=2, le=1024, description="Completions per prompt: the group size G.")
    max_completion_length: int = Field(256, ge=1, le=131_072, description="Longest completion, in tokens.")
    max_prompt_length: int = Field(
        2048,
        ge=1,
        le=131_072,
        description="Longest prompt, in tokens; all are measured before training, and `data.on_bad_row` says what "
        "a longer one does.",
    )
    temperature: float = Field(1.0, gt=0, le=10, description="Sampling temperature; log-probabilities use it too.")
    max_batch_size: int = Field(256, ge=1, le=65_536, description="Completions sampled together in one call.")
    vllm_mode: Literal["colocate", "server"] = Field(
        "colocate",
        description="`colocate`: vLLM in the trainer's process, on its GPU. `server`: a `vllm serve` elsewhere, which "
        "gets the weights before it samples.",
    )
    vllm_gpu_memory_utilization: float = Field(
        0.3, gt=0, lt=1, description="Share of the GPU's memory that a colocated vLLM fills while it samples."
    )
    vllm_enable_sleep_mode: bool = Field(
        True, description="On a GPU: a colocated vLLM gives its memory back while the weights are updated."
    )
    vllm_server_base_url: str | None = Field(
        None,
        max_length=500,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description="Address of the `vllm serve`, as in `http://gpu-box:8000`; the worker's operator has to allow it.",
    )
    vllm_server_timeout: float = Field(
        600.0, gt=0, le=86_400, description="Seconds that one request to the `vllm serve` may take."
    )
    vllm_weight_sync: Literal["nccl", "disk"] = Field(
        "nccl",
        description="How a `vllm serve` gets weights: `nccl` from GPU to GPU, `disk` through the run's folder, which "
        "it must see under the same path.",
    )

    @model_validator(mode="after")
    def _a_server_has_an_address(self) -> RolloutSpec:
        if self.engine != "vllm":
            return self
        if self.vllm_mode == "server" and self.vllm_server_base_url is None:
            raise ValueError(
                "rollout.vllm_mode is server, but rollout.vllm_server_base_url is missing; give its address, or use "
                "colocate"
            )
        if self.vllm_mode == "colocate" and self.vllm_server_base_url is not None:
            raise ValueError(
                "rollout.vllm_server_base_url is set, but rollout.vllm_mode is colocate; set it to server, or remove "
                "the address"
            )
        return self


# --- optimizer, evaluation, checkpoints, resources ------------------------------------------------


class OptimSpec(Section):
    """The optimizer: AdamW."""

    learning_rate: float = Field(1e-6, gt=0, le=1, description="Peak learning rate.")
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="Learning rate after warm-up: constant, or falling to 0 at the last step."
    )
    warmup_steps: int = Field(0, ge=0, description="Optimizer steps over which the learning rate rises to its peak.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Decoupled weight decay.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the gradient's running mean.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the squared gradient's running mean.")
    max_grad_norm: float = Field(1.0, gt=0, description="Clip the gradient to this global norm.")


SetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


class QuestionSetSpec(Section):
    """A further set of questions; those that its data hold out, or all of its rows where they hold out none."""

    data: DataSpec = Field(description="Where the questions come from.")
    reward: RewardSpec | None = Field(None, description="What says that an answer is right; not set: the run's reward.")
    num_prompts: int = Field(128, ge=1, le=100_000, description="The first so many questions.")
    num_samples: int | None = Field(
        None, ge=1, le=1024, description="Sampled completions per prompt; not set: as for the run's own questions."
    )

    @field_validator("reward", mode="before")
    @classmethod
    def _typed(cls, reward: Any) -> Any:
        return with_type(reward)


class EvaluationSpec(Section):
    """How accuracy is measured: before training, every few steps, and at the end."""

    every: int = Field(10, ge=0, description="Steps between evaluations; 0 evaluates only before and after training.")
    num_prompts: int = Field(128, ge=1, le=100_000, description="Held-out prompts.")
    num_samples: int = Field(4, ge=1, le=1024, description="Sampled completions per prompt.")
    greedy: bool = Field(True, description="Also score one greedy completion per prompt.")
    temperature: float = Field(1.0, gt=0, le=10, description="Temperature of the sampled completions.")
    sets: dict[SetName, QuestionSetSpec] = Field(
        default={},
        max_length=32,
        description="Further sets of questions by name (small letters, digits, `-`, `_`), answered whenever the run's "
        "own are.",
    )
    gradient_probe_every: int = Field(
        0,
        ge=0,
        description="Steps between gradient probes, which compare two selections' gradients with the full one; each "
        "costs one full and two partial backward passes and two gradients' memory. 0 for none.",
    )


class CheckpointSpec(Section):
    """When the run's weights and optimizer are saved."""

    every: int = Field(0, ge=0, description="Steps between checkpoints; 0 for none but those by time and at the end.")
    every_s: float = Field(
        600.0,
        ge=0,
        le=1e6,
        description="Seconds after which a step ends with a checkpoint too, the most a lost run loses; 0 for none.",
    )
    keep: int = Field(2, ge=1, le=100, description="Newest checkpoints kept.")


class ResourcesSpec(Section):
    """What the update step may use."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes a GPU when there is one.")
    gpus: int | None = Field(
        None,
        ge=0,
        le=64,
        description="GPUs leased for the run, which trains on all of them; not set: one where the worker has any, else "
        "none.",
    )
    worker_label: str | None = Field(
        None, min_length=1, max_length=100, description="Only workers with this label (`NATLAB_LABELS`) take the run."
    )
    num_threads: int | None = Field(None, ge=1, le=1024, description="CPU threads for torch; all cores when not set.")
    max_tokens_per_microbatch: int = Field(
        8192,
        ge=1,
        le=10_000_000,
        description="Cap on tokens (prompts + kept completions) in a forward and backward pass. A row is never split.",
    )
    per_device_train_batch_size: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Completions in a micro-batch, on average: fixes the number of micro-batches instead of their "
        "tokens, so that a smaller budget shows as less memory.",
    )
    logprob_chunk_tokens: int = Field(
        1024, ge=1, le=1_000_000, description="Selected tokens whose logits exist at the same time."
    )
    num_logged_samples: int = Field(
        4, ge=0, le=64, description="Completions logged with their selection at each evaluation."
    )

    @model_validator(mode="after")
    def _gpus_fit_the_device(self) -> ResourcesSpec:
        if self.device == "cpu" and self.gpus:
            raise ValueError(f"resources.gpus is {self.gpus}, but resources.device is cpu; set one of them to fit")
        if self.device == "cuda" and self.gpus == 0:
            raise ValueError("resources.gpus is 0, but resources.device is cuda; set one of them to fit")
        return self
