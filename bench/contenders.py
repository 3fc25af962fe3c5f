"""Who takes part: each makes the gradient of the same step's loss in its own way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from nat_core.batch import CompletionBatch
from nat_core.drawing import draw_step
from nat_core.gradient import accumulate_gradient
from nat_core.microbatch import plan_microbatches
from nat_core.model import Policy
from nat_core.spec import BudgetSpec, FullBudget, ResourcesSpec, RolloutSpec, RunSpec


@dataclass(frozen=True)
class Work:
    """What one gradient ran on: counted operations, places of the largest micro-batch, and what went wrong."""

    flops: float
    kept: int
    largest: int
    warning: str | None = None


Contender = Callable[[torch.Generator], Work]


def natlab(policy: Policy, batch: CompletionBatch, budget: BudgetSpec, resources: ResourcesSpec) -> Contender:
    """Our update step short of the optimizer: selection, passes, gradient."""
    spec = RunSpec(budget=budget, resources=resources, rollout=_rollout(batch))

    def gradient(generator: torch.Generator) -> Work:
        step = draw_step(policy, batch, spec, generator)
        passes = accumulate_gradient(policy, None, step, spec)
        largest = max(micro.tokens.num_places for micro in passes.microbatches)
        return Work(passes.flops, step.selection.num_kept, largest, passes.warning)

    return gradient


def largest_share(policy: Policy, batch: CompletionBatch, budget: BudgetSpec, resources: ResourcesSpec) -> float:
    """Places of the largest micro-batch of a selection, as a share of `full`'s: the mean of 200, none of them run."""
    places = _largest(policy, batch, budget, resources, 200)
    return sum(places) / len(places) / _largest(policy, batch, FullBudget(), resources, 1)[0]


def typical_seed(
    policy: Policy, batch: CompletionBatch, budget: BudgetSpec, resources: ResourcesSpec, seeds: int = 200
) -> int:
    """The seed, of so many, whose selection's largest micro-batch comes closest to their mean: with typical memory."""
    places = _largest(policy, batch, budget, resources, 1 if budget.selector == "full" else seeds)
    mean = sum(places) / len(places)
    return min(range(len(places)), key=lambda seed: abs(places[seed] - mean))


def _largest(
    policy: Policy, batch: CompletionBatch, budget: BudgetSpec, resources: ResourcesSpec, seeds: int
) -> list[int]:
    """Places of the largest micro-batch of each seed's selection."""
    spec = RunSpec(budget=budget, resources=resources, rollout=_rollout(batch))
    found = []
    for seed in range(seeds):
        step = draw_step(policy, batch, spec, torch.Generator().manual_seed(seed))
        rows, cost = step.rows, policy.token_cost
        plan = plan_microbatches(rows.prompts, rows.completions, step.selection, resources, policy.layout, cost=cost)
        found.append(max(micro.tokens.num_places for micro in plan))
    return found


def trl(policy: Policy, batch: CompletionBatch, sequences: int, folder: Path) -> Contender:
    """TRL's `GRPOTrainer._compute_loss` and its backward pass, as its loop calls it: rows in the order in which they
    came, padded to the longest of all, `sequences` at a time; every position's logits. Gradient checkpointing, which
    TRL turns on by itself, is off here: it would cost it a third more.
    """
    trainer = _trl_trainer(policy, batch, sequences, folder)
    model = trainer.model.train()
    inputs = _trl_inputs(batch)
    trainer.current_gradient_accumulation_steps = _ceil(len(batch.completions), sequences)
    parts = [
        {name: value[start : start + sequences] if value.dim() else value for name, value in inputs.items()}
        for start in range(0, len(batch.completions), sequences)
    ]
    lengths = batch.prompt_lengths.max() + batch.lengths.max()

    def gradient(generator: torch.Generator) -> Work:
        for parameter in policy.parameters:
            parameter.grad = None
        for part in parts:
            trainer._compute_loss(model, part).backward()
        cost = policy.token_cost
        flops = len(batch.completions) * float(cost.trunk(lengths)) + float(cost.head(inputs["completion_ids"].numel()))
        return Work(flops, int(batch.lengths.sum()), sequences * int(lengths))

    return gradient


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def _rollout(batch: CompletionBatch) -> RolloutSpec:
    return RolloutSpec(max_completion_length=int(batch.lengths.max()), temperature=1.0)


def _trl_trainer(policy: Policy, batch: CompletionBatch, sequences: int, folder: Path) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    return GRPOTrainer(
        model=policy.model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=sequences,
            gradient_accumulation_steps=_ceil(len(batch.completions), sequences),
            num_generations=2,
            max_completion_length=int(batch.lengths.max()),
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=policy.device.type == "cpu",
            report_to=[],
            beta=0.0,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["1"] * sequences}),
        processing_class=policy.tokenizer,
    )


def _trl_inputs(batch: CompletionBatch) -> dict[str, Any]:
    prompts, completions = batch.prompts, batch.completions
    mask = pad_sequence([torch.ones_like(c) for c in completions], batch_first=True)
    return {
        "prompt_ids": pad_sequence(prompts, batch_first=True, padding_side="left"),
        "prompt_mask": pad_sequence([torch.ones_like(p) for p in prompts], batch_first=True, padding_side="left"),
        "completion_ids": pad_sequence(completions, batch_first=True),
        "completion_mask": mask,
        "advantages": batch.advantages,
        "num_items_in_batch": mask.sum(),
    }
