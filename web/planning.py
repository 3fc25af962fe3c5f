"""What an experiment is expected to cost, before it starts: each budget's update step, beside full's.

Lengths of completions are not known before any was sampled, so they are assumed: said with the plan, and open to
better knowledge. Everything here is arithmetic on a spec and a model's sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from nat_core.cost import Lengths, ModelShape, Rates, StepPlan, expected_lengths, expected_step, num_ranks
from nat_core.records import Assumed, BudgetPlan, ExperimentPlan, Room, Speed
from nat_core.spec import BudgetSpec, ExperimentSpec, FullBudget, RunSpec
from web.formatting import significant


def assumptions(spec: RunSpec, prompt: int | None = None, completion: int | None = None) -> Assumed:
    """What is given, else what `expected_lengths` takes for granted."""
    lengths = expected_lengths(spec, prompt, completion)
    return Assumed(prompt_tokens=lengths.prompt, completion_tokens=lengths.completion)


def plan_experiment(
    spec: ExperimentSpec,
    shape: ModelShape | str,
    assumed: Assumed,
    room: Room | None = None,
    speed: Speed | None = None,
) -> ExperimentPlan:
    """The plan; `shape` is the model's, or a sentence on why it is not known. With seconds where a speed is known."""
    runs = len(spec.budgets) * len(spec.seeds)
    bare = ExperimentPlan(
        num_runs=runs,
        cells=[budget.label for budget in spec.budgets],
        seeds=list(spec.seeds),
        steps_total=runs * spec.base.steps,
        assumed=assumed,
        num_devices=num_ranks(spec.base),
        room=room,
    )
    if isinstance(shape, str):
        return bare.model_copy(update={"unknown": shape})
    lengths = Lengths(assumed.prompt_tokens, assumed.completion_tokens)
    devices = num_ranks(spec.base)
    rates = Rates.at(speed.flops_per_s / devices, shape.token_cost) if speed else None
    full = _step(_document(spec.base, FullBudget()), shape, lengths, rates)
    steps = [_step(_document(spec.base, budget), shape, lengths, rates) for budget in spec.budgets]
    budgets = [_told(budget, step, full, room) for budget, step in zip(spec.budgets, steps, strict=True)]
    each = spec.base.steps * len(spec.seeds)
    return bare.model_copy(
        update={
            "speed": speed,
            "full": _told(FullBudget(), full, full, room),
            "budgets": budgets,
            "tokens_generated_total": each * sum(plan.tokens_generated for plan in budgets),
            "tokens_selected_total": each * sum(plan.tokens_selected for plan in budgets),
            "warnings": _warnings(spec.base, budgets, room),
        }
    )


def _document(base: RunSpec, budget: BudgetSpec) -> str:
    """What of a run's spec its cost depends on: the same for two specs that differ in their name or seeds alone."""
    spec = base.model_copy(update={"budget": budget})
    return spec.model_dump_json(include={"model", "rollout", "objective", "budget", "resources"})


@lru_cache(maxsize=512)  # the launch page asks anew at every change, most of which leave most budgets as they are
def _step(document: str, shape: ModelShape, lengths: Lengths, rates: Rates | None) -> StepPlan:
    return expected_step(RunSpec.model_validate_json(document), shape, lengths, rates)


def _told(budget: BudgetSpec, plan: StepPlan, full: StepPlan, room: Room | None) -> BudgetPlan:
    return BudgetPlan(
        budget=budget.label,
        tokens_generated=plan.tokens_generated,
        tokens_selected=plan.tokens_selected,
        tokens_trunk=plan.tokens_trunk,
        flops=plan.flops,
        flops_share=plan.flops / full.flops,
        seconds=plan.seconds,
        seconds_share=plan.seconds / full.seconds if plan.seconds and full.seconds else None,
        num_microbatches=plan.num_microbatches,
        largest_microbatch=plan.largest_microbatch,
        memory_gib=plan.memory_gib,
        total_gib=plan.total_gib,
        total_share=plan.total_gib / full.total_gib,
        fits=None if room is None or room.memory_gib is None else plan.total_gib <= room.memory_gib,
    )


def _warnings(base: RunSpec, budgets: Sequence[BudgetPlan], room: Room | None) -> list[str]:
    if room is None:
        return []
    said = [f"worker {room.worker_id} takes none of these runs: {room.refusal}"] if room.refusal else []
    large = [plan for plan in budgets if plan.fits is False]
    if not large or room.memory_gib is None:
        return said
    names = "no budget fits" if len(large) == len(budgets) else f"{_listed([plan.budget for plan in large])} won't fit"
    most = max(large, key=lambda plan: plan.total_gib)
    where = f"worker {room.worker_id}'s {'GPU' if room.on_gpu else 'memory'}"
    need = f"{names} {where} of {significant(room.memory_gib)} GiB: a step needs {significant(most.total_gib)} GiB"
    return [*said, f"{need}; {_remedy(base, most, room.memory_gib)}"]


def _remedy(base: RunSpec, plan: BudgetPlan, room_gib: float) -> str:
    parts = ("weights", "gradients", "optimizer", "reference", "gathered", "copy for sampling")
    held = sum(plan.memory_gib.get(part, 0.0) for part in parts)
    if held > room_gib:
        return f"{significant(held)} of them whatever the batch is, so take a smaller model or a larger worker"
    size = base.resources.per_device_train_batch_size
    field = "max_tokens_per_microbatch" if size is None else "per_device_train_batch_size"
    ways = [f"lower resources.{field}"] + (
        [] if base.model.gradient_checkpointing else ["model.gradient_checkpointing"]
    )
    return " or turn on ".join(ways)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
