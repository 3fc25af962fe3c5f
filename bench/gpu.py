"""What token budgets save on a GPU: `python -m bench.gpu`. Needs torch, transformers and pydantic, nothing else.

Qwen3-8B's shape with random weights in bfloat16, completions of 1,771 to 8,192 tokens (bench/lengths/long-16.json),
forward and backward passes of one optimizer step: our own `full` and budgets of `rpc`, by turns. With gradient
checkpointing off micro-batches hold as many tokens for everyone, which shows as time; with it on also as many
sequences, which shows as memory. And one budget on 1, 2, 4 and 8 times as many completions. The paper saves 29% of
forward and backward time and 18% of total peak memory at half the tokens.

The file is written anew after every case, so that one which is lost, or a run that is ended, takes no other along. Each
case may use its part of `--minutes`; turns that don't fit into it are left out, and rows say how many there were.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STARTED = time.monotonic()  # before torch is imported, which may take long

import torch  # noqa: E402

from bench.contenders import natlab, typical_seed  # noqa: E402
from bench.gpu_report import (  # noqa: E402
    about,
    against_targets,
    growth_table,
    peak_flops,
    shares,
    summary,
    table,
    write,
)
from bench.prediction import expected, rates_of  # noqa: E402
from bench.shapes import Lengths, policy_of, random_batch, read_lengths  # noqa: E402
from bench.turns import Peaks, allocated_gib, peaks, take_turns  # noqa: E402
from nat_core import packing  # noqa: E402
from nat_core.cost import Rates  # noqa: E402
from nat_core.errors import StepMemoryError  # noqa: E402
from nat_core.gradient import synchronise  # noqa: E402
from nat_core.model import Policy, checkpoint_layers  # noqa: E402
from nat_core.out_of_memory import is_out_of_memory  # noqa: E402
from nat_core.spec import BudgetSpec, FullBudget, ModelSpec, ResourcesSpec, RpcBudget  # noqa: E402

Row = dict[str, Any]

_SHORTER = (None, 6144, 4096)  # completions held to so many tokens, where a case does not fit
_RESERVE = 40.0  # seconds at the end, for the rates
_SEEDS = 40
_FEWEST = 2


@dataclass(frozen=True)
class Case:
    """One table.

    Attributes:
        resources: how micro-batches are cut, given the tokens of the longest row.
        part: of the time, against the others' parts.
        grows: whether the completions are multiplied, instead of budgets compared.
    """

    checkpointing: bool
    resources: Callable[[int], ResourcesSpec]
    part: float
    grows: bool = False


CASES = {  # without checkpointing an 8B model's activations leave room for one longest row
    "checkpointing off, one longest row's tokens": Case(
        False, lambda longest: ResourcesSpec(max_tokens_per_microbatch=longest), 6
    ),
    "checkpointing on, 8 sequences": Case(True, lambda longest: ResourcesSpec(per_device_train_batch_size=8), 6),
    "checkpointing off, 1, 2, 4 and 8 times the completions": Case(
        False, lambda longest: ResourcesSpec(max_tokens_per_microbatch=longest), 5, grows=True
    ),
    "checkpointing on, four longest rows' tokens": Case(
        True, lambda longest: ResourcesSpec(max_tokens_per_microbatch=4 * longest), 4
    ),
}


def model_spec(checkpointing: bool) -> ModelSpec:
    return ModelSpec(dtype="bfloat16", gradient_checkpointing=checkpointing)


class Bench:
    """One run: the model, the time, and the cases on them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        self.lengths = read_lengths(options.lengths)
        self.budgets: list[BudgetSpec] = [FullBudget(), *(RpcBudget(fraction=b) for b in options.budgets)]
        self.end = STARTED + 60 * options.minutes
        self._made = policy_of(options.model, self.device, model_spec(False), dtype="bfloat16")

    def say(self, words: str) -> None:
        """A line of progress."""
        print(f"[{time.monotonic() - STARTED:5.0f} s] {words}", flush=True)

    def policy(self, checkpointing: bool) -> Policy:
        """The one model, its layers made to recompute or not."""
        model: Any = self._made.model
        if checkpointing:
            checkpoint_layers(model)
        else:
            model.gradient_checkpointing_disable()
            model.eval()
        return Policy(model, self._made.tokenizer, self.device, model_spec(checkpointing))

    def run(self, name: str, until: float) -> Row:
        """Measure a case: on shorter completions where it does not fit, and with what was lost on the way."""
        case, lost = CASES[name], []
        for held_to in _SHORTER:
            lengths = self.lengths if held_to is None else self.lengths.held_to(held_to)
            if held_to is not None and lengths.lengths == self.lengths.lengths:
                break
            try:
                rows = (self.grow if case.grows else self.compare)(case, lengths, until)
                return {"lengths_held_to": held_to, "rows": rows, "lost": lost}
            except Exception as error:  # whatever one case runs into, the others are to be measured
                lost.append(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
                traceback.print_exc()
                too_large = is_out_of_memory(error) or isinstance(error, StepMemoryError)
            self.say(f"lost: {name}, completions to {max(lengths.lengths)}: {lost[-1]}")
            self.clear()
            if not too_large:
                break
        return {"lengths_held_to": None, "rows": [], "lost": lost}

    def compare(self, case: Case, lengths: Lengths, until: float) -> list[Row]:
        """One row a budget."""
        policy, resources = self.policy(case.checkpointing), self.resources(case, lengths)
        batch = random_batch(lengths, policy.model.config.get_text_config().vocab_size)
        contenders = {budget.label: natlab(policy, batch, budget, resources) for budget in self.budgets}
        found = {}
        for budget in reversed(self.budgets):  # this warms up, too; the largest last, so that its memory stays at hand
            seed, label = typical_seed(policy, batch, budget, resources, _SEEDS), budget.label
            found[label] = self.memory(contenders[label], policy, seed)
            guess = self.expected(budget, case, lengths)["activations_gib"]
            self.say(f"{label}: {found[label].activations:.1f} GiB beside weights and gradients, expected {guess:.1f}")
        enough = self.enough(until)
        rows = take_turns(contenders, self.device, self.options.selections, warm_up=0, enough=enough)
        for row in rows:
            row |= {"activations_gib": found[row["name"]].activations, "total_gib": found[row["name"]].total}
            if (peak := peak_flops(self.device)) is not None:
                row["model_flops_utilisation"] = row["flops"] / row["seconds"] / peak
        shares(rows)
        return rows

    def grow(self, case: Case, lengths: Lengths, until: float) -> list[Row]:
        """One row a number of completions, with the first budget after `full`; the smallest twice, to warm up."""
        policy, resources = self.policy(case.checkpointing), self.resources(case, lengths)
        rows: list[Row] = []
        for factor in (1, 1, 2, 4, 8):
            last = rows[-1]["seconds"] * factor / rows[-1]["factor"] if rows else 0.0
            if time.monotonic() + last > until:
                self.say(f"no time left for {factor} times as many completions")
                break
            batch = random_batch(lengths.times(factor), policy.model.config.get_text_config().vocab_size)
            contender = natlab(policy, batch, self.budgets[1], resources)
            self.reset_peak()
            (row,) = take_turns({self.budgets[1].label: contender}, self.device, 1, warm_up=0)
            row |= {
                "factor": factor,
                "completions": len(batch.completions),
                "seconds_per_kept_token": row["seconds"] / row["kept_tokens"],
                "total_gib": self.total_peak(),
            }
            rows.append(row)
            self.say(f"{row['completions']} completions: {row['seconds']:.2f} s")
        return rows[1:]

    def predict(self, name: str, rows: list[Row], lengths: Lengths, rates: Rates) -> None:
        """Put what `nat_core.cost` expects beside what was measured."""
        case = CASES[name]
        budgets = [self.budgets[1]] * len(rows) if case.grows else self.budgets
        for row, budget in zip(rows, budgets, strict=True):
            row["predicted"] = self.expected(budget, case, lengths.times(row.get("factor", 1)), rates)
            row["off"] = {what: value / row[what] - 1 for what, value in row["predicted"].items() if row.get(what)}

    def expected(
        self, budget: BudgetSpec, case: Case, lengths: Lengths, rates: Rates | None = None
    ) -> dict[str, float]:
        """What `nat_core.cost` expects, for weights of two bytes."""
        resources, model = self.resources(case, lengths), model_spec(case.checkpointing)
        return expected(budget, resources, lengths, self.options.model, model, rates, wide=2)

    # --- the device ---

    def resources(self, case: Case, lengths: Lengths) -> ResourcesSpec:
        return case.resources(lengths.prompt + max(lengths.lengths))

    def memory(self, contender: Any, policy: Policy, seed: int) -> Peaks:
        if self.device.type == "cuda":
            self.clear()
            return peaks(contender, policy, seed)
        weights = sum(p.numel() * p.element_size() for p in policy.parameters) / 1024**3
        activations = allocated_gib(contender, policy, seed)
        return Peaks(activations, activations + 2 * weights)

    def reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def total_peak(self) -> float:
        return torch.cuda.max_memory_allocated(self.device) / 1024**3 if self.device.type == "cuda" else 0.0

    def reserved(self) -> float | None:
        """What torch has taken of the device: what tensors hold, and what lies between them."""
        return torch.cuda.max_memory_reserved(self.device) / 1024**3 if self.device.type == "cuda" else None

    def clear(self) -> None:
        """Give back what the case before held."""
        synchronise(self.device)
        for parameter in self._made.parameters:
            parameter.grad = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def enough(self, until: float) -> Callable[[], bool]:
        """Whether another turn as long as the last one would end after `until`."""
        before, turns = time.monotonic(), 0

        def asked() -> bool:
            nonlocal before, turns
            now, turns = time.monotonic(), turns + 1
            before, last = now, now - before
            return turns >= _FEWEST and now + last > until

        return asked


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU; pass --device cpu --model toy --lengths dry-8 for a dry run")
    now, bench = datetime.now(UTC), Bench(options)
    report: Row = {
        "command": " ".join(["python -m bench.gpu", *arguments]),
        "date": f"{now:%Y-%m-%d}",
        "model": options.model,
        "lengths": asdict(bench.lengths),
        "hardware": about(bench.device),
        "micro-batches": packing.in_words(bench.policy(False)),
        "cases": {},
    }
    path = options.out / f"{'-'.join(report['hardware']['device'].lower().split())}-{now:%Y-%m-%d}.json"
    bench.say(f"{report['hardware']}; micro-batches: {report['micro-batches']}")
    for name in CASES:
        parts = sum(case.part for other, case in CASES.items() if other not in report["cases"])
        left = bench.end - _RESERVE - time.monotonic()
        bench.say(f"{name}: {max(0.0, left * CASES[name].part / parts):.0f} s for it")
        began = time.monotonic()
        found = report["cases"][name] = bench.run(name, began + left * CASES[name].part / parts)
        found |= {"seconds": time.monotonic() - began, "reserved_gib": bench.reserved()}
        report["targets"] = against_targets(report["cases"])
        write(report, path)
        if found["rows"]:
            print((growth_table if CASES[name].grows else table)(name, found["rows"]), flush=True)
        bench.clear()
    _add_predictions(bench, report)
    write(report, path)
    print(summary(report["targets"]), path, sep="\n", flush=True)
    if any(not case["rows"] for case in report["cases"].values()):
        raise SystemExit("a case was lost; see above and `lost` in the file")


def _add_predictions(bench: Bench, report: Row) -> None:
    """What was to be expected, at the rates of this device."""
    try:
        for checkpointing in (False, True):
            bench.say("measuring the device's rates")
            rates = rates_of(report["model"], bench.device, model_spec(checkpointing), "bfloat16")
            report.setdefault("rates", {})["checkpointing on" if checkpointing else "checkpointing off"] = asdict(rates)
            for name, found in report["cases"].items():
                if CASES[name].checkpointing is checkpointing:
                    held_to = found["lengths_held_to"]
                    lengths = bench.lengths if held_to is None else bench.lengths.held_to(held_to)
                    bench.predict(name, found["rows"], lengths, rates)
    except Exception:  # what was measured is kept
        traceback.print_exc()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen3-8b", help="a shape of bench/shapes.py")
    parser.add_argument("--lengths", default="long-16", help="a list of bench/lengths")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.5, 0.25], help="fractions of rpc")
    parser.add_argument("--selections", type=int, default=20, help="turns that count, at most")
    parser.add_argument("--minutes", type=float, default=7.5, help="for all of it")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder for <device>-<date>.json")
    return parser


if __name__ == "__main__":
    main()
