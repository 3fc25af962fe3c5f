"""The policy loss of a spec. Field names follow TRL's `GRPOConfig` where it has one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from nat_core.spec.budget import BudgetSpec
from nat_core.spec.section import Section

_CISPO_CAP = 5.0  # ScaleRL's, arXiv 2510.13786


class ObjectiveSpec(Section):
    """The policy loss. Denominators count full lengths, never kept tokens."""

    loss_type: Literal["dapo", "grpo", "dr_grpo", "cispo", "gspo"] = Field(
        "dapo",
        description="Weight of a token: `dapo` 1/(all tokens of the step), `grpo` 1/(completions x own length), "
        "`dr_grpo` 1/(completions x max_completion_length). `cispo`: as `dapo`, with a capped ratio that carries no "
        "gradient instead of a clip. `gspo`: as `grpo`, with one ratio a completion; needs budget full or completions.",
    )
    epsilon: float = Field(0.2, gt=0, lt=1, description="Lower clip of the importance ratio: 1 - epsilon.")
    epsilon_high: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Upper clip: 1 + epsilon_high; `epsilon` when not set (DAPO uses 0.28). For `cispo` the cap of the "
        "ratio itself, 5 when not set.",
    )
    delta: float | None = Field(
        None,
        gt=1,
        le=1000,
        description="Two-sided clipping: also caps the unclipped ratio, which bounds the loss where the advantage is "
        "negative. Above 1 + epsilon_high; not for `cispo`.",
    )
    beta: float = Field(0.0, ge=0, le=100, description="Weight of the KL penalty against the initial policy.")
    kl_estimator: Literal["k3", "k2"] = Field(
        "k3",
        description="Estimate of the KL in the penalty: `k3` is unbiased and never negative; `k2`, half the squared "
        "log-ratio, has the true KL's gradient on policy.",
    )
    use_bias_correction_kl: bool = Field(
        False,
        description="Multiply the KL by the importance ratio, gradient included, which makes the gradient of `k3` that "
        "of the true KL (DeepSeek-V3.2; on by default in TRL 1.16).",
    )
    entropy_coef: float = Field(
        0.0, ge=0, le=10, description="Weight of an entropy bonus: the mean entropy over completion tokens."
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group", description="Divide advantages by the standard deviation of the group, of the batch, or not at all."
    )
    advantage_baseline: Literal["mean", "leave_one_out"] = Field(
        "mean",
        description="What a reward is compared with: the mean of its group, or of the others in it (RLOO).",
    )
    rollout_is: Literal["none", "token", "sequence"] = Field(
        "none",
        description="Correct for a rollout engine whose probabilities differ from the trainer's: multiply the policy "
        "term by the truncated ratio trainer / rollout, of each token or of the whole completion (which needs budget "
        "full or completions).",
    )
    rollout_is_cap: float = Field(3.0, gt=0, le=1000, description="Largest ratio of that correction.")
    mask_truncated_completions: bool = Field(
        False, description="Leave completions that hit the length limit out of the loss."
    )
    overlong_buffer: int = Field(
        0,
        ge=0,
        le=131_072,
        description="Soft overlong penalty (DAPO): tokens before rollout.max_completion_length within which the reward "
        "falls in a straight line; 0 for none.",
    )
    overlong_penalty: float = Field(
        1.0, gt=0, le=1000, description="Reward taken from a completion that fills the whole buffer."
    )
    num_iterations: int = Field(1, ge=1, le=64, description="Optimizer steps on each rollout batch.")

    @property
    def ratio_cap(self) -> float:
        """The highest ratio that the loss lets through: 1 + epsilon_high, for `cispo` epsilon_high itself."""
        if self.loss_type == "cispo":
            return _CISPO_CAP if self.epsilon_high is None else self.epsilon_high
        return 1 + (self.epsilon if self.epsilon_high is None else self.epsilon_high)

    @property
    def sequence_level(self) -> str | None:
        """The setting that needs every token of a completion, as `field value`; None where none does."""
        if self.loss_type == "gspo":
            return "loss_type gspo"
        return "rollout_is sequence" if self.rollout_is == "sequence" else None

    @model_validator(mode="after")
    def _delta_has_a_place(self) -> ObjectiveSpec:
        if self.delta is None:
            return self
        if self.loss_type == "cispo":
            raise ValueError("objective.delta is set, but cispo has no clip that it could bound; remove it")
        if self.delta <= self.ratio_cap:
            raise ValueError(
                f"objective.delta is {self.delta:g}, but must be above the upper clip 1 + epsilon_high = "
                f"{self.ratio_cap:g}; raise it"
            )
        return self


def check_sequence_level(objective: ObjectiveSpec, budget: BudgetSpec) -> None:
    """A ratio of whole completions cannot be had from part of their tokens.

    Raises:
        ValueError: the objective has one, and the budget keeps part of a completion.
    """
    if objective.sequence_level and budget.selector not in ("full", "completions"):
        raise ValueError(
            f"objective.{objective.sequence_level} needs every token of a completion, but budget.selector is "
            f"{budget.selector}; use full or completions"
        )
