"""What choosing tokens costs in time: `python -m bench.selection`.

Cuts: `select_tokens` for 1,024 completions of up to 16k tokens, for each law and coupling of `rpc`. `optimal` reads
what each position costs, as the update step tells it: by SmolLM2-135M's FLOPs.

Shares: at the shape of SmolLM2-135M (random weights), how much of an update step's time goes into drawing its selection
and making the weights of all its tokens, for every selector.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.budgets import budgets_at
from bench.shapes import Lengths, policy_of, random_batch, read_lengths
from nat_core import hardware
from nat_core.drawing import draw_step
from nat_core.optim import build_optimizer
from nat_core.spec import FullBudget, OptimSpec, ResourcesSpec, RpcBudget, RunSpec
from nat_core.token_selection import GradientMass, select_tokens
from nat_core.token_selection.gradient_mass import BINS
from nat_core.update import update_step

MODEL, LENGTHS = "smollm2-135m", "ragged-16"
LAWS, COUPLINGS = ("linear", "uniform", "optimal"), ("iid", "antithetic", "systematic")


@dataclass(frozen=True)
class Cuts:
    """Completions to cut: how many, the longest, and their prompts."""

    num_completions: int = 1024
    longest: int = 16_384
    prompt: int = 256


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Time of a call in milliseconds, the median of many after one that does not count."""
    call()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return 1e3 * median(seconds)


def cut_times(cuts: Cuts, repeats: int) -> list[dict[str, Any]]:
    """One row for each law and coupling."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, cuts.longest + 1, (cuts.num_completions,), generator=generator)
    lengths[0] = cuts.longest
    prompts = torch.full((cuts.num_completions, 1), cuts.prompt, dtype=torch.float64)
    flops = policy_of(MODEL, torch.device("meta")).token_cost
    rows = []
    for law in LAWS:
        for coupling in COUPLINGS:
            budget = RpcBudget(law=law, coupling=coupling)
            state = learned_mass() if budget.needs_law_state else None

            def cut(budget: RpcBudget = budget, state: Any = state) -> object:
                cost = flops.of_completions(prompts, 8) if budget.needs_cost else None
                return select_tokens(budget, lengths, generator=generator, cost=cost, law_state=state)

            rows.append({"law": law, "coupling": coupling, "select_ms": median_ms(cut, repeats)})
    return rows


def step_shares(model: str, lengths: Lengths, repeats: int) -> Iterator[dict[str, Any]]:
    """One row for each selector: a whole update step once, its selection many times."""
    policy = policy_of(model, torch.device("cpu"))
    batch = random_batch(lengths, policy.model.config.get_text_config().vocab_size)
    spec = RunSpec(resources=ResourcesSpec(max_tokens_per_microbatch=2048), optim=OptimSpec(learning_rate=1e-6))
    optimizer = build_optimizer(policy.parameters, spec.optim)
    generator = torch.Generator().manual_seed(0)
    for budget in [FullBudget(), *budgets_at(0.5)]:
        spec = spec.model_copy(update={"budget": budget})
        state = learned_mass() if budget.needs_law_state else None

        def select(spec: RunSpec = spec, state: GradientMass | None = state) -> object:
            return draw_step(policy, batch, spec, generator, state).selection.weights

        selection_ms = median_ms(select, repeats)
        started = time.perf_counter()
        update_step(policy, optimizer, batch, spec, generator=generator, law_state=state)
        step_ms = 1e3 * (time.perf_counter() - started)
        share = selection_ms / step_ms
        yield {"budget": budget.label, "selection_ms": selection_ms, "step_ms": step_ms, "share": share}


def learned_mass() -> GradientMass:
    """What `law: optimal` might have learned: gradient that falls off along the completion."""
    state = GradientMass()
    state.load_state_dict({"estimate": torch.linspace(2.0, 0.5, BINS, dtype=torch.float64).tolist()})
    return state


def show(report: dict[str, Any]) -> None:
    """Print the tables to a terminal."""
    cuts = Table("law", "coupling", "ms", box=None)
    for row in report["cuts"]["rows"]:
        cuts.add_row(row["law"], row["coupling"], f"{row['select_ms']:.2f}")
    shares = Table("budget", "selection, ms", "step, s", "share", box=None)
    for row in report["shares"]["rows"]:
        times = f"{row['selection_ms']:.2f}", f"{row['step_ms'] / 1e3:.1f}"
        shares.add_row(row["budget"], *times, f"{row['share']:.4%}")
    Console(width=120).print(report["cuts"]["title"], cuts, "", report["shares"]["title"], shares, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=50, help="selections timed for each row; the median counts")
    parser.add_argument("--json", type=Path, help="where to write the numbers, with the hardware")
    options = parser.parse_args()
    cuts, lengths = Cuts(), read_lengths(LENGTHS)
    report = {
        "command": " ".join(["python -m bench.selection", *sys.argv[1:]]),
        "repeats": options.repeats,
        "hardware": hardware.describe(torch.device("cpu")),
        "cuts": {
            "title": f"{cuts.num_completions:,} completions of up to {cuts.longest:,} tokens, cut at half",
            "rows": cut_times(cuts, options.repeats),
        },
        "shares": {
            "title": f"one update step of {MODEL}: {lengths.about}",
            "rows": list(step_shares(MODEL, lengths, options.repeats)),
        },
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    show(report)


if __name__ == "__main__":
    main()
