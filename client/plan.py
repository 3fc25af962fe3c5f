"""`natlab plan`: what each budget's update step is expected to cost, before anything runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Table

from nat_core.cost import Lengths, Rates, StepPlan, expected_lengths, expected_step, shape_of
from nat_core.errors import NatlabError
from nat_core.spec import BudgetSpec, FullBudget, RunSpec

_GIB = 1024**3


class Assumptions(BaseModel):
    """What a plan takes for granted, since no completion has been sampled yet."""

    prompt_tokens: int = Field(description="Tokens of each prompt.")
    completion_tokens: int = Field(description="Mean tokens of a completion; they spread evenly by up to 3/4 of it.")
    memory_gib: float = Field(description="Memory that there is, on each device.")


def assumptions(spec: RunSpec, prompt: int | None, mean_length: int | None, memory_gib: float | None) -> Assumptions:
    """What the caller says, else the lengths that every plan assumes, and this machine's memory."""
    lengths = expected_lengths(spec, prompt, mean_length)
    return Assumptions(
        prompt_tokens=lengths.prompt,
        completion_tokens=lengths.completion,
        memory_gib=memory_gib or machine_memory_gib(),
    )


def measured_rates(spec: RunSpec) -> Rates:
    """This machine's rates for the spec's model, measured in a process that has torch.

    Raises:
        NatlabError: that process failed.
    """
    lora = spec.model.lora
    command = [sys.executable, "-m", "nat_core.measure", spec.model.path, "--dtype", spec.model.dtype]
    command += ["--gradient-checkpointing"] if spec.model.gradient_checkpointing else []
    command += ["--lora-r", str(lora.r), "--lora-target-modules", lora.target_modules] if lora.r else []
    command += ["--lora-quantize", lora.quantize] if lora.quantize != "none" else []
    command += ["--device", spec.resources.device] if spec.resources.device != "auto" else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NatlabError(f"measuring this machine failed ({why}); is natlab[trainer] installed here?")
    return Rates(**json.loads(done.stdout.splitlines()[-1]))


def plans(
    spec: RunSpec, budgets: list[BudgetSpec], assumed: Assumptions, rates: Rates | None = None
) -> list[tuple[str, StepPlan]]:
    """One plan a budget, `full` first; with seconds where rates are given."""
    shape = shape_of(spec.model.path)
    lengths = Lengths(assumed.prompt_tokens, assumed.completion_tokens)
    chosen: list[BudgetSpec] = [FullBudget(), *(b for b in budgets if b.selector != "full")]
    return [(b.label, expected_step(spec.model_copy(update={"budget": b}), shape, lengths, rates)) for b in chosen]


def as_json(found: list[tuple[str, StepPlan]], assumed: Assumptions, devices: int = 1) -> dict[str, Any]:
    """The same for programs."""
    full = found[0][1]
    return {
        "assumed": assumed.model_dump(),
        "num_devices": devices,
        "budgets": [
            {
                "budget": label,
                "tokens_generated": plan.tokens_generated,
                "tokens_selected": plan.tokens_selected,
                "tokens_trunk": plan.tokens_trunk,
                "flops": plan.flops,
                "flops_share": plan.flops / full.flops,
                "seconds": plan.seconds,
                "num_microbatches": plan.num_microbatches,
                "largest_microbatch": plan.largest_microbatch,
                "memory_gib": plan.memory_gib,
                "total_gib": plan.total_gib,
                "fits": plan.total_gib <= assumed.memory_gib,
            }
            for label, plan in found
        ],
    }


def show(found: list[tuple[str, StepPlan]], assumed: Assumptions, out: Console, devices: int = 1) -> None:
    """Print the table, what it assumes, and a warning for what won't fit."""
    full, on_each = found[0][1], f" on each of {devices} devices" if devices > 1 else ""
    out.print("[bold]One update step, as expected[/bold]", _table(found, on_each), "", sep="\n")
    out.print(f"[bold]Its memory{on_each} by what it holds, GiB[/bold]", _memory(found), "", sep="\n")
    said = []
    if on_each:
        said.append(
            f"Tokens and FLOPs are those of all {devices} devices together, micro-batches and memory those of each: "
            "reckoned from how a run is cut over devices, and not held to a measurement yet."
        )
    said.append(
        f"Assumed: prompts of {assumed.prompt_tokens} tokens (--prompt-tokens), completions of "
        f"{assumed.completion_tokens} on average (--completion-tokens), every group teaching something."
        + ("" if full.seconds is not None else " Seconds come with --measure.")
    )
    for line in said:
        out.print(line, soft_wrap=True)
    for label, plan in found:
        if plan.total_gib > assumed.memory_gib:
            need = f"{label} won't fit{on_each}: {plan.total_gib:.1f} GiB of {assumed.memory_gib:.1f}."
            out.print(f"[yellow]{need} {_remedy(plan)}[/yellow]", soft_wrap=True)


def _table(found: list[tuple[str, StepPlan]], on_each: str) -> Table:
    full = found[0][1]
    timed = ["seconds"] if full.seconds is not None else []
    columns = ["budget", "tokens trained on", "update FLOPs", "of full", *timed, f"micro-batches{on_each}"]
    table = Table(*columns, f"memory{on_each}, GiB", box=None)
    for label, plan in found:
        table.add_row(
            label,
            f"{plan.tokens_selected:,.0f} of {plan.tokens_generated:,}",
            f"{plan.flops / 1e12:,.3g} T",
            f"{plan.flops / full.flops:.0%}",
            *([f"{plan.seconds:.3g}"] if plan.seconds is not None else []),
            f"{plan.num_microbatches}, largest {plan.largest_microbatch:,.0f} tokens",
            f"{plan.total_gib:.2f}",
        )
    return table


def _remedy(plan: StepPlan) -> str:
    if "copy for sampling" in plan.memory_gib:
        return "Each device holds the whole model while it samples: take a smaller one, or devices with more memory."
    return "Lower resources.max_tokens_per_microbatch or turn on model.gradient_checkpointing."


def _memory(found: list[tuple[str, StepPlan]]) -> Table:
    parts = list(dict.fromkeys(part for _, plan in found for part in plan.memory_gib))
    table = Table("budget", *parts, box=None)
    for label, plan in found:
        table.add_row(label, *(f"{plan.memory_gib.get(part, 0.0):.2f}" for part in parts))
    return table


def machine_memory_gib() -> float:
    """Of the first GPU where there is one, else of this machine."""
    try:
        asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout
        return float(answer.splitlines()[0]) / 1024
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
