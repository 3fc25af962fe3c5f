"""A run, and an experiment that compares budgets over it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nat_core.spec.budget import BudgetSpec, FullBudget, RpcBudget, TruncateBudget, UrsBudget
from nat_core.spec.data import DataSpec, DemoArithmetic
from nat_core.spec.model import ModelSpec
from nat_core.spec.objective import ObjectiveSpec, check_sequence_level
from nat_core.spec.reward import ExactMatch, RewardSpec, check_knows_data, with_type
from nat_core.spec.section import Section
from nat_core.spec.sections import (
    CheckpointSpec,
    EvaluationSpec,
    OptimSpec,
    ResourcesSpec,
    RolloutSpec,
)


class RunSpec(Section):
    """One training run, whole."""

    model: ModelSpec = Field(default_factory=ModelSpec)
    data: DataSpec = Field(default_factory=DemoArithmetic)
    reward: RewardSpec = Field(default_factory=ExactMatch)
    rollout: RolloutSpec = Field(default_factory=RolloutSpec)
    objective: ObjectiveSpec = Field(default_factory=ObjectiveSpec)
    budget: BudgetSpec = Field(default_factory=RpcBudget, validate_default=True)
    optim: OptimSpec = Field(default_factory=OptimSpec)
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec)
    checkpoint: CheckpointSpec = Field(default_factory=CheckpointSpec)
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec)
    seed: int = Field(0, ge=0, lt=2**31, description="Seeds weights, prompt order, sampling and selection.")
    steps: int = Field(60, ge=1, le=10_000_000, description="Rollout batches to train on.")

    @field_validator("reward", mode="before")
    @classmethod
    def _typed(cls, reward: Any) -> Any:
        return with_type(reward)

    @field_validator("reward")
    @classmethod
    def _knows_the_data(cls, reward: RewardSpec, info: ValidationInfo) -> RewardSpec:
        if "data" in info.data:
            check_knows_data(reward, info.data["data"].type)
        return reward

    @field_validator("objective")
    @classmethod
    def _buffer_fits(cls, objective: ObjectiveSpec, info: ValidationInfo) -> ObjectiveSpec:
        rollout = info.data.get("rollout")
        if rollout is not None and objective.overlong_buffer > rollout.max_completion_length:
            raise ValueError(
                f"objective.overlong_buffer is {objective.overlong_buffer}, above rollout.max_completion_length "
                f"{rollout.max_completion_length}; lower it"
            )
        return objective

    @field_validator("evaluation")
    @classmethod
    def _rewards_know_their_sets(cls, evaluation: EvaluationSpec, info: ValidationInfo) -> EvaluationSpec:
        for name, part in evaluation.sets.items():
            reward = part.reward or info.data.get("reward")
            if reward is not None:
                check_knows_data(reward, part.data.type, f"evaluation.sets.{name}.reward")
        return evaluation

    @field_validator("budget")
    @classmethod
    def _fits_the_objective(cls, budget: BudgetSpec, info: ValidationInfo) -> BudgetSpec:
        if "objective" in info.data:
            check_sequence_level(info.data["objective"], budget)
        return budget


class ExperimentSpec(Section):
    """A comparison: one base run, several budgets, several seeds. It expands to budgets x seeds runs."""

    name: str = Field(min_length=1, max_length=120, description="What the experiment asks.")
    base: RunSpec = Field(
        default_factory=RunSpec,
        validate_default=True,
        description="Everything the runs share; its `budget` and `seed` are replaced.",
    )
    budgets: list[BudgetSpec] = Field(
        min_length=1, max_length=32, description="The budgets to compare, each with every seed."
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default=[0], min_length=1, max_length=64, description="Seeds; budgets are compared paired by seed."
    )
    baseline: int = Field(0, ge=0, description="Position in `budgets` of the one that others are compared with.")
    margin: float = Field(
        0.01, gt=0, lt=1, description="Loss of accuracy still called non-inferior: 0.01 is one point."
    )
    tags: list[Annotated[str, Field(min_length=1, max_length=40)]] = Field(
        default=[], max_length=20, description="Words to find the experiment by."
    )
    notes: str = Field("", max_length=20_000, description="Anything worth remembering.")

    @field_validator("base", mode="before")
    @classmethod
    def _base_has_no_budget_of_its_own(cls, base: Any) -> Any:
        """It is replaced in every run, so it must not forbid an objective that the budgets allow."""
        if isinstance(base, RunSpec):
            return base.model_copy(update={"budget": FullBudget()})
        return {**base, "budget": {"selector": "full"}} if isinstance(base, dict) else base

    @field_validator("budgets")
    @classmethod
    def _fit_the_objective(cls, budgets: list[BudgetSpec], info: ValidationInfo) -> list[BudgetSpec]:
        if "base" in info.data:
            for budget in budgets:
                check_sequence_level(info.data["base"].objective, budget)
        return budgets

    @model_validator(mode="after")
    def _consistent(self) -> ExperimentSpec:
        if self.baseline >= len(self.budgets):
            raise ValueError(
                f"baseline is {self.baseline}, but there are {len(self.budgets)} budgets, counted from 0; lower it"
            )
        for field, values in (("budgets", self.budgets), ("seeds", self.seeds)):
            shown = [value if isinstance(value, int) else value.label for value in values]
            twice = next((item for item in shown if shown.count(item) > 1), None)
            if twice is not None:
                raise ValueError(f"{field} holds {twice!r} twice, but each may stand once; remove one")
        return self

    def expand(self) -> list[RunSpec]:
        """The runs of this experiment: for each seed, every budget in the order given."""
        return [
            self.base.model_copy(update={"budget": budget, "seed": seed})
            for seed in self.seeds
            for budget in self.budgets
        ]


def demo_experiment(steps: int = 60, seeds: tuple[int, ...] = (0,)) -> ExperimentSpec:
    """The built-in demo: four budgets on chained arithmetic, minutes on two CPU cores."""
    return ExperimentSpec(
        name="How few tokens does chained arithmetic need?",
        base=RunSpec(
            rollout=RolloutSpec(num_prompts=16, num_generations=8, max_completion_length=96),
            optim=OptimSpec(learning_rate=1e-4, lr_scheduler_type="linear"),
            evaluation=EvaluationSpec(every=12),
            resources=ResourcesSpec(per_device_train_batch_size=32),
            steps=steps,
        ),
        budgets=[
            FullBudget(),
            RpcBudget(fraction=0.5, law="linear"),
            UrsBudget(fraction=0.5),
            TruncateBudget(fraction=0.5),
        ],
        seeds=list(seeds),
        tags=["demo"],
    )
