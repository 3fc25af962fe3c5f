"""What token budgets save on a GPU: `python -m bench.gpu`. Needs torch, transformers and pydantic, nothing else.

Qwen3-8B's shape with random weights in bfloat16, completions of 1,771 to 8,192 tokens (bench/lengths/long-16.json),
forward and backward passes of one optimizer step: our own `full` and budgets of `rpc`, by turns. With gradient
checkpointing off micro-batches hold as many tokens for everyone, which shows as time; with it on also as many
sequences, which shows as memory. The paper saves 29% of forward and backward time and 18% of total peak memory at half
the tokens.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.contenders import natlab, typical_seed
from bench.shapes import policy_of, random_batch, read_lengths
from bench.turns import peak_gib, take_turns
from nat_core.attention import varlen_serves
from nat_core.spec import BudgetSpec, FullBudget, ModelSpec, ResourcesSpec, RpcBudget

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense bfloat16 operations a second that makers state, by a part of the device's name."""


def arms(longest: int, checkpointing: bool) -> dict[str, ResourcesSpec]:
    """How micro-batches are cut. Without checkpointing an 8B model's activations leave room for one longest row."""
    if not checkpointing:
        return {"tokens": ResourcesSpec(max_tokens_per_microbatch=longest)}
    return {
        "tokens": ResourcesSpec(max_tokens_per_microbatch=4 * longest),
        "8 sequences": ResourcesSpec(per_device_train_batch_size=8),
        "16 sequences": ResourcesSpec(per_device_train_batch_size=16),
    }


def measure(options: argparse.Namespace, checkpointing: bool) -> dict[str, list[dict[str, Any]]]:
    """One table for each arm."""
    device = torch.device(options.device)
    spec = ModelSpec(dtype="bfloat16", gradient_checkpointing=checkpointing)
    policy = policy_of(options.model, device, spec, dtype="bfloat16")
    lengths = read_lengths(options.lengths)
    batch = random_batch(lengths, policy.model.config.get_text_config().vocab_size)
    budgets: list[BudgetSpec] = [FullBudget(), *(RpcBudget(fraction=fraction) for fraction in options.budgets)]
    found = {}
    for arm, resources in arms(lengths.prompt + max(lengths.lengths), checkpointing).items():
        contenders = {budget.label: natlab(policy, batch, budget, resources) for budget in budgets}
        rows = take_turns(contenders, device, options.selections)
        weights = sum(p.numel() * p.element_size() for p in policy.parameters) / 1024**3
        for row, budget in zip(rows, budgets, strict=True):
            seed = typical_seed(policy, batch, budget, resources)
            row["activations_gib"] = peak_gib(contenders[row["name"]], policy, seed)
            row["total_gib"] = row["activations_gib"] + 2 * weights  # weights and gradients
            if (peak := peak_flops(device)) is not None:
                row["model_flops_utilisation"] = row["flops"] / row["seconds"] / peak
        found[arm] = rows
        print(
            table(f"gradient checkpointing {'on' if checkpointing else 'off'}, {arm} a micro-batch", rows), flush=True
        )
    del policy, contenders
    gc.collect()
    if device.type == "cuda":  # the next model needs the room
        torch.cuda.empty_cache()
    return found


def peak_flops(device: torch.device) -> float | None:
    """Of the device, where its maker's figure is known here."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """A table in plain text."""
    lines = [title, f"{'':20} {'s':>7} {'time':>6} {'FLOPs':>6} {'activations':>12} {'total GiB':>10} {'MFU':>5}"]
    for row in rows:
        share = row["activations_gib"] / rows[0]["activations_gib"] if rows[0]["activations_gib"] else float("nan")
        utilisation = row.get("model_flops_utilisation")
        lines.append(
            f"{row['name']:20} {row['seconds']:7.2f} {row['time_share']:6.0%} {row['flops_share']:6.0%} "
            f"{row['activations_gib']:6.1f} {share:5.0%} {row['total_gib']:10.1f} "
            f"{'' if utilisation is None else f'{utilisation:.0%}':>5}"
        )
    return "\n".join([*lines, ""])


def about(device: torch.device) -> dict[str, Any]:
    """Hardware and versions."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or "cpu",
        "memory_gib": torch.cuda.get_device_properties(device).total_memory / 1024**3 if on_gpu else None,
        "attention": "varlen" if varlen_serves(device, "bfloat16") else "one sequence at a time",
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "pydantic")},
    }


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen3-8b", help="a shape of bench/shapes.py")
    parser.add_argument("--lengths", default="long-16", help="a list of bench/lengths")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.5, 0.25], help="fractions of rpc")
    parser.add_argument("--selections", type=int, default=5, help="turns that count")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder for <device>-<date>.json")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU; pass --device cpu with --model toy --lengths ragged-16 for a dry run")
    device, now = torch.device(options.device), datetime.now(UTC)
    report = {
        "command": " ".join(["python -m bench.gpu", *arguments]),
        "date": f"{now:%Y-%m-%d}",
        "model": options.model,
        "lengths": asdict(read_lengths(options.lengths)),
        "hardware": about(device),
        "gradient_checkpointing_off": measure(options, checkpointing=False),
        "gradient_checkpointing_on": measure(options, checkpointing=True),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    name = "-".join(report["hardware"]["device"].lower().split())
    path = options.out / f"{name}-{now:%Y-%m-%d}.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(path)


if __name__ == "__main__":
    main()
