"""What an update step costs, by budget and against TRL: `python -m bench.update_step`.

The same completions, weights and loss for everyone. Timed is what makes the gradient: selection, forward and backward
passes; the optimizer's step is the same for all and left out. Contenders take turns, a fresh selection each time, so
that a machine that slows down slows all of them; what counts is the median of each one's ratio to `full` in its turn.
Memory is each contender's peak above weights and gradients, in a process of its own, with a selection whose largest
micro-batch is as large as it is on average: what the process holds, and what its tensors take.

Two arms, which answer two questions: as many *sequences* a micro-batch for everyone (a smaller budget shows as less
memory), and as many *tokens* a micro-batch (it shows as fewer micro-batches, so as time). The baseline is our own
`full` with everything on; what padding wastes is never credited to a budget.

`--predict` puts beside each row what `nat_core.cost` expects of it, with this machine's rates measured in the same run;
`--read` shows, joins or draws reports made earlier instead of measuring again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.contenders import Contender, largest_share, natlab, trl, typical_seed
from bench.figure_file import write_figure
from bench.prediction import predict, rates_of
from bench.shapes import policy_of, random_batch, read_lengths
from bench.turns import allocated_gib, peak_gib, take_turns
from bench.update_step_figure import figure
from nat_core import hardware
from nat_core.batch import CompletionBatch
from nat_core.cost import Rates
from nat_core.model import Policy
from nat_core.spec import BudgetSpec, FullBudget, ModelSpec, ResourcesSpec

ARMS = ("sequences", "tokens")
GROWTH = (1, 2, 4, 8)
MEMORY = {"peak_gib": peak_gib, "allocated_gib": allocated_gib}
_BUDGETS: TypeAdapter[BudgetSpec] = TypeAdapter(BudgetSpec)


def budgets_of(selector: str, fractions: list[float]) -> list[BudgetSpec]:
    """`full`, then the selector at each fraction with its defaults."""
    return [
        FullBudget(),
        *(_BUDGETS.validate_python({"selector": selector, "fraction": fraction}) for fraction in fractions),
    ]


def resources_of(arm: str, options: argparse.Namespace) -> ResourcesSpec:
    """How micro-batches are cut in an arm."""
    if arm == "tokens":
        return ResourcesSpec(max_tokens_per_microbatch=options.tokens)
    return ResourcesSpec(per_device_train_batch_size=options.sequences)


def contenders_of(
    policy: Policy, batch: CompletionBatch, arm: str, options: argparse.Namespace
) -> dict[str, Contender]:
    """By name; TRL takes part where micro-batches are counted in sequences, which is all that it can do."""
    resources = resources_of(arm, options)
    found = {b.label: natlab(policy, batch, b, resources) for b in budgets_of(options.selector, options.budgets)}
    if options.against == "trl" and arm == "sequences":
        found["TRL"] = trl(policy, batch, options.sequences, options.scratch)
    return found


def memory_apart(arguments: list[str], arm: str, name: str, kind: str) -> float:
    """Memory of one contender in a process of its own, of a kind in `MEMORY`."""
    command = [sys.executable, "-m", "bench.update_step", *arguments, "--only", arm, name, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"measuring the memory of {name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def growth(policy: Policy, options: argparse.Namespace, peaks: dict[int, float]) -> Iterator[dict[str, Any]]:
    """As work grows, more completions of the same lengths: seconds a kept token, largest micro-batch, memory."""
    lengths = read_lengths(options.lengths)
    vocabulary = policy.model.config.get_text_config().vocab_size
    for factor in GROWTH:
        batch = random_batch(lengths.times(factor), vocabulary)
        chosen = budgets_of(options.selector, options.budgets[:1])[-1]
        contender = natlab(policy, batch, chosen, resources_of("tokens", options))
        for row in take_turns({chosen.label: contender}, policy.device, max(1, options.selections // 5), _shown):
            per_token = row["seconds"] / row["kept_tokens"]
            peak = {"peak_gib": peaks[factor]} if factor in peaks else {}
            yield {"factor": factor, "seconds_per_kept_token": per_token} | row | peak


def measure(options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """The whole report."""
    device = torch.device(options.device)
    policy, batch = _setting(options, device)
    report: dict[str, Any] = {
        "command": " ".join(["python -m bench.update_step", *arguments]),
        "model": options.model,
        "lengths": asdict(read_lengths(options.lengths)) | {"name": options.lengths},
        "selections": options.selections,
        "hardware": hardware.describe(device),
        "arms": {},
    }
    arms = ARMS if options.arm is None else (options.arm,)
    # Memory first, while this process is still small: two at once may be more than there is.
    peaks = {arm: _peaks(policy, batch, arm, options, arguments) for arm in arms} if options.memory else {}
    grown = _peaks_of_growth(options, arguments) if options.memory and options.growth else {}
    for arm in arms:
        rows = take_turns(contenders_of(policy, batch, arm, options), device, options.selections, _shown)
        for row, budget in zip(rows, budgets_of(options.selector, options.budgets), strict=False):
            row["largest_share"] = largest_share(policy, batch, budget, resources_of(arm, options))
        report["arms"][arm] = [row | peaks.get(arm, {}).get(row["name"], {}) for row in rows]
    if options.growth:
        report["growth"] = list(growth(policy, options, grown))
    return report


def joined(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Reports of one machine and model as one: their arms, their growth, their commands."""
    whole = dict(reports[0])
    for report in reports[1:]:
        if (report["model"], report["hardware"]) != (whole["model"], whole["hardware"]):
            raise SystemExit("--read: these reports are of different models or machines, which do not compare")
        whole["arms"] = whole["arms"] | report["arms"]
        whole |= {name: report[name] for name in ("growth", "rates") if name in report}
        whole["command"] += f"; {report['command']}"
    return whole


def add_predictions(report: dict[str, Any], options: argparse.Namespace) -> None:
    """What was to be expected of each row of ours, at the rates in the report, else at those of this machine now."""
    spec, device = _model_spec(options), torch.device(options.device)
    rates = Rates(**report["rates"]) if "rates" in report else rates_of(report["model"], device, spec)
    report["rates"] = asdict(rates)
    lengths, budgets = read_lengths(report["lengths"]["name"]), budgets_of(options.selector, options.budgets)
    for arm, rows in report["arms"].items():
        predict(rows, budgets, resources_of(arm, options), lengths, report["model"], rates, spec)


def _peaks(
    policy: Policy, batch: CompletionBatch, arm: str, options: argparse.Namespace, arguments: list[str]
) -> dict[str, dict[str, float]]:
    names = contenders_of(policy, batch, arm, options)
    return {name: {kind: memory_apart(arguments, arm, name, kind) for kind in MEMORY} for name in names}


def _peaks_of_growth(options: argparse.Namespace, arguments: list[str]) -> dict[int, float]:
    """Peak memory by how many times as many completions there are."""
    name = budgets_of(options.selector, options.budgets[:1])[-1].label
    return {
        factor: memory_apart([*arguments, "--factor", str(factor)], "tokens", name, "peak_gib") for factor in GROWTH
    }


def _memory(policy: Policy, batch: CompletionBatch, options: argparse.Namespace) -> float:
    """Of a selection with which the largest micro-batch is as large as it is on average."""
    arm, name, kind = options.only
    contender = contenders_of(policy, batch, arm, options)[name]
    drawn = {budget.label: budget for budget in budgets_of(options.selector, options.budgets)}.get(name)
    seed = typical_seed(policy, batch, drawn, resources_of(arm, options)) if drawn else 0
    return MEMORY[kind](contender, policy, seed)


def _shown(turns: range) -> Iterable[int]:
    return track(turns, description="taking turns", console=Console(stderr=True))


def _setting(options: argparse.Namespace, device: torch.device) -> tuple[Policy, CompletionBatch]:
    policy = policy_of(options.model, device, _model_spec(options))
    lengths = read_lengths(options.lengths).times(options.factor)
    return policy, random_batch(lengths, policy.model.config.get_text_config().vocab_size)


def _model_spec(options: argparse.Namespace) -> ModelSpec:
    return ModelSpec(dtype=options.dtype, gradient_checkpointing=options.gradient_checkpointing)


def show(report: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    for arm, rows in report["arms"].items():
        title = f"{report['model']}, {report['lengths']['name']}, as many {arm} a micro-batch for everyone"
        table = Table(
            "", "s", "time", "FLOPs", "time saved / FLOPs saved", "largest micro-batch", "peak GiB", "tensors", box=None
        )
        for row in rows:
            saved, share = row["time_saved_of_flops_saved"], row.get("largest_share")
            table.add_row(
                row["name"],
                f"{row['seconds']:.2f}",
                f"{row['time_share']:.0%}",
                f"{row['flops_share']:.0%}",
                "" if saved is None else f"{saved:.2f}",
                f"{row['largest_microbatch']:,.0f}" + ("" if share is None else f" ({share:.0%})"),
                *(f"{row[kind]:.2f}" if kind in row else "" for kind in MEMORY),
            )
        console.print(title, table, "", sep="\n")
        for row in (row for row in rows if "off" in row):
            console.print(f"{row['name']}: predicted {_off(row['off'])}")
    for row in report.get("growth", []):
        console.print(
            f"completions x {row['factor']}: {row['seconds']:.2f} s, {1e3 * row['seconds_per_kept_token']:.2f} ms "
            f"a kept token, largest micro-batch {row['largest_microbatch']:,.0f}"
            + (f", peak {row['peak_gib']:.2f} GiB" if "peak_gib" in row else "")
        )


def _off(off: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:+.0%}" for name, share in off.items()) + " of what was measured"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a shape of bench/shapes.py, or a model's directory")
    parser.add_argument("--lengths", default="ragged-16", help="a list of bench/lengths, by name")
    parser.add_argument("--selector", default="rpc")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.5, 0.25], help="fractions of the selector")
    parser.add_argument("--against", choices=["trl", "none"], default="none")
    parser.add_argument("--arm", choices=ARMS, help="one arm (default: both)")
    parser.add_argument("--sequences", type=int, default=8, help="sequences a micro-batch, in that arm")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a micro-batch at most, in that arm")
    parser.add_argument("--selections", type=int, default=20, help="turns that count")
    parser.add_argument("--memory", action="store_true", help="also peak memory, each in its own process")
    parser.add_argument("--growth", action="store_true", help="also 2, 4 and 8 times as many completions")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the passes")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--predict", action="store_true", help="also what was to be expected, with measured rates")
    parser.add_argument("--read", type=Path, nargs="+", metavar="JSON", help="reports to take instead of measuring")
    parser.add_argument("--figure", type=Path, help="a .png or .html to draw")
    parser.add_argument("--json", type=Path, help="where to write the numbers, with the hardware")
    parser.add_argument("--scratch", type=Path, default=Path(".natlab/bench"), help="folder that TRL may write in")
    parser.add_argument("--factor", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs=3, metavar=("ARM", "NAME", "KIND"), help=argparse.SUPPRESS)
    return parser


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    if options.only:
        print(_memory(*_setting(options, torch.device(options.device)), options))
        return
    read = [json.loads(path.read_text()) for path in options.read or []]
    report = joined(read) if read else measure(options, arguments)
    if options.predict:
        add_predictions(report, options)
    if options.figure:
        write_figure(figure(report), options.figure)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    show(report, Console(width=120))


if __name__ == "__main__":
    main()
