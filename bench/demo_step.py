"""A whole step of the demo, rollout and update, against TRL's trainer: `python -m bench.demo_step`.

Both train the demo's model on the demo's prompts with the same group size, completions, micro-batches and reward; the
learning rate is as good as zero, so that everyone's policy, and with it the completions' lengths, stays the same.
Trainers take turns at a few steps each; what counts is the median step, and its ratio to TRL's in the same turn.
TRL is timed by its own callbacks from a step's begin to its end, natlab by its metric `timing_s/step`: sampling,
scoring, gradient and optimizer on both sides. One thread, as on a busy box, unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nat_core import hardware
from nat_core.data import open_source
from nat_core.events import MetricsEvent
from nat_core.model import DEMO_DIR
from nat_core.reward import Sample, Scorer
from nat_core.spec import BudgetSpec, FullBudget, RpcBudget, RunSpec, UrsBudget, demo_experiment
from nat_core.trainer import Trainer

STILL = 1e-12
"""A learning rate that moves nothing and is none that an optimizer refuses."""

Timed = Callable[[int], list[float]]
"""Seconds of each of so many steps."""


def spec_of(budget: BudgetSpec, steps: int) -> RunSpec:
    """The demo's run with this budget, standing still."""
    base = demo_experiment().base
    return base.model_copy(
        update={
            "budget": budget,
            "steps": steps,
            "optim": base.optim.model_copy(update={"learning_rate": STILL}),
            "evaluation": base.evaluation.model_copy(update={"num_prompts": 1, "num_samples": 1, "every": 0}),
        }
    )


def natlab(budget: BudgetSpec) -> Timed:
    """Our trainer, timed by itself."""

    def run(steps: int) -> list[float]:
        times: list[float] = []

        def sink(event: Any) -> None:
            if isinstance(event, MetricsEvent):
                times.append(event.values["timing_s/step"])

        with tempfile.TemporaryDirectory() as folder:
            result = Trainer(spec_of(budget, steps), Path(folder), sink).train()
        if result.outcome != "succeeded":
            raise RuntimeError(f"{budget.label} ended as {result.outcome}: {result.message}")
        return times

    return run


def trl(steps: int) -> list[float]:
    """TRL's trainer on the same prompts, timed by its callbacks."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    spec = spec_of(FullBudget(), steps)
    source, rollout = open_source(spec.data, 1), spec.rollout
    examples = [e for step in range(steps) for e in source.training_batch(spec.seed, step, rollout.num_prompts)]
    scorer = Scorer(spec.reward)
    size = spec.resources.per_device_train_batch_size
    assert size is not None
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.monotonic() - self.started)

    def reward(prompts: list[str], completions: list[str], answer: list[str], **_: Any) -> list[float]:
        rows = zip(prompts, completions, answer, strict=True)
        return [found.reward for found in scorer.score([Sample(*row) for row in rows])]

    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32),
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=rollout.num_prompts * rollout.num_generations // size,
                num_generations=rollout.num_generations,
                max_completion_length=rollout.max_completion_length,
                temperature=rollout.temperature,
                learning_rate=STILL,
                beta=0.0,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                shuffle_dataset=False,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                logging_strategy="no",
            ),
            train_dataset=Dataset.from_list([{"prompt": e.prompt, "answer": e.answer} for e in examples]),
            processing_class=AutoTokenizer.from_pretrained(DEMO_DIR),
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return times


CONTENDERS: dict[str, Timed] = {
    "TRL": trl,
    **{b.label: natlab(b) for b in (FullBudget(), RpcBudget(fraction=0.5), UrsBudget(fraction=0.5))},
}


def measure(turns: int, steps: int) -> list[dict[str, Any]]:
    """One row a contender; a turn's first step warms up and is not counted."""
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in track(range(turns), description="taking turns", console=Console(stderr=True)):
        for name, contender in CONTENDERS.items():
            found[name].append(median(contender(steps + 1)[1:]))
    base = found["TRL"]
    return [
        {
            "name": name,
            "seconds": median(times),
            "times_faster": median(theirs / own for theirs, own in zip(base, times, strict=True)),
        }
        for name, times in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps a turn that count")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--json", type=Path, help="where to write the numbers, with the hardware")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = measure(options.turns, options.steps)
    table = Table("", "s a step", "times as fast as TRL", box=None)
    for row in rows:
        table.add_row(row["name"], f"{row['seconds']:.2f}", f"{row['times_faster']:.2f}")
    Console(width=100).print(table)
    if options.json:
        about = {"command": " ".join(["python -m bench.demo_step", *sys.argv[1:]])}
        report = about | {"hardware": hardware.describe(torch.device("cpu")), "rows": rows}
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
