"""What a rollout costs when completions end at different times: `python -m bench.rollout`.

Three ways to sample the same number of completions from the same model, by turns, a fresh seed each time: transformers'
`generate` batch by batch, transformers' continuous batching, and ours. Each ends completions where the model does, so
lengths differ from one to another; what counts is seconds per token, and its ratio to `generate` in the same turn.

The random model has no end of its own: one token in 64 of its vocabulary ends a completion, whose length is then
geometric, as heavy-tailed as it gets.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import ContinuousBatchingConfig, GenerationConfig

from bench.shapes import policy_of
from nat_core import hardware
from nat_core.data import open_source
from nat_core.model import Policy, load_policy
from nat_core.rollout import plain, slots
from nat_core.rollout.completion import Sampling
from nat_core.spec import ResourcesSpec, demo_experiment

Sampler = Callable[[int], int]
"""Samples with a seed; returns how many tokens."""


class Case:
    """A model, prompts, and how many completions side by side."""

    def __init__(self, policy: Policy, prompts: list[list[int]], num_samples: int, longest: int, size: int) -> None:
        self.policy, self.prompts, self.num_samples = policy, prompts, num_samples
        self.longest, self.size = longest, size
        self.jobs = list(range(len(prompts) * num_samples))

    def ours(self, engine: Any) -> Sampler:
        """By one of natlab's two engines."""

        def run(seed: int) -> int:
            sampling = Sampling(self.num_samples, self.longest, 1.0, seed)
            found = engine.sample(self.policy, self.prompts, self.jobs, sampling, self.size)
            return sum(len(completion.ids) for completion in found)

        return run

    def continuous(self, seed: int) -> int:
        """By transformers' continuous batching, with log-probabilities, which training needs."""
        config = GenerationConfig(
            max_new_tokens=self.longest,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            eos_token_id=sorted(self.policy.eos_ids),
            pad_token_id=self.policy.pad_id,
        )
        batching = ContinuousBatchingConfig(
            return_logprobs=True,
            seed=seed,
            max_requests_per_batch=self.size,
            max_batch_tokens=max(256, self.size),
            num_blocks=4 * self.size,
        )
        model: Any = self.policy.model
        found = model.generate_batch(
            [self.prompts[job // self.num_samples] for job in self.jobs], config, batching, warmup=False
        )
        if len(found) != len(self.jobs):
            raise RuntimeError(f"continuous batching returned {len(found)} of {len(self.jobs)} completions")
        return sum(len(output.generated_tokens) for output in found.values())


def demo(size: int) -> Case:
    """A step of the demo: 16 prompts, 8 completions each."""
    spec = demo_experiment().base
    policy = load_policy(spec.model, ResourcesSpec(device="cpu"))
    examples = open_source(spec.data, spec.evaluation.num_prompts).training_batch(0, 0, spec.rollout.num_prompts)
    prompts = [policy.encode(example) for example in examples]
    return Case(policy, prompts, spec.rollout.num_generations, spec.rollout.max_completion_length, size)


def random_model(shape: str, num_prompts: int, num_samples: int, longest: int, size: int) -> Case:
    """Random weights that end a completion at one token in 64."""
    policy = policy_of(shape, torch.device("cpu"))
    vocabulary = policy.model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    assert policy.model.generation_config is not None
    policy.model.generation_config.eos_token_id = list(range(1, vocabulary, 64))
    prompts = [torch.randint(1, vocabulary, (64,), generator=generator).tolist() for _ in range(num_prompts)]
    return Case(policy, prompts, num_samples, longest, size)


CASES: dict[str, Callable[[], Case]] = {
    "demo, all 128 at once": lambda: demo(128),
    "demo, 32 at a time": lambda: demo(32),
    "smollm2-135m shape, 24 completions, 8 at a time": lambda: random_model("smollm2-135m", 6, 4, 192, 8),
}


@torch.no_grad()
def measure(case: Case, turns: int, shown: Callable[[range], Any]) -> list[dict[str, Any]]:
    """One row a contender: medians over its turns; one turn each goes uncounted first."""
    contenders: dict[str, Sampler] = {
        "generate": case.ours(plain),
        "continuous batching": case.continuous,
        "natlab": case.ours(slots),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in shown(range(turns + 1)):
        for name, sample in contenders.items():
            started = time.perf_counter()
            tokens = sample(turn)
            if turn:
                times[name].append((time.perf_counter() - started) / tokens)
    return [
        {
            "name": name,
            "ms_per_token": 1e3 * median(found),
            "times_faster": median(base / own for base, own in zip(times["generate"], found, strict=True)),
        }
        for name, found in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="turns that count")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this one (default: all)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: all cores)")
    parser.add_argument("--json", type=Path, help="where to write the numbers, with the hardware")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    report: dict[str, Any] = {
        "command": " ".join(["python -m bench.rollout", *sys.argv[1:]]),
        "hardware": hardware.describe(torch.device("cpu")),
        "cases": {},
    }
    for name in options.case or CASES:
        rows = measure(CASES[name](), options.turns, lambda turns: track(turns, console=Console(stderr=True)))
        report["cases"][name] = rows
        table = Table(name, "ms a token", "times as fast as generate", box=None)
        for row in rows:
            table.add_row(row["name"], f"{row['ms_per_token']:.3f}", f"{row['times_faster']:.2f}")
        Console(width=120).print(table, "")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
