"""What the GPU benchmark says of itself: hardware, tables, and how the issue's targets were met."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense bfloat16 operations a second that makers state, by a part of the device's name."""

TARGETS = {"time_saved": 0.48, "activations_saved": 0.35, "model_flops_utilisation": 0.45}
"""At b = ½ against `full`; the paper: 29% of forward and backward time, 18% of total peak memory."""


def about(device: torch.device) -> Row:
    """Hardware and versions."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or "cpu",
        "memory_gib": torch.cuda.get_device_properties(device).total_memory / 1024**3 if on_gpu else None,
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "pydantic")},
    }


def peak_flops(device: torch.device) -> float | None:
    """Of the device, where its maker's figure is known here."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def table(title: str, rows: list[Row]) -> str:
    """Contenders of a case, in plain text."""
    head = f"{'':20} {'turns':>5} {'s':>7} {'time':>6} {'FLOPs':>6} {'activations':>12} {'total GiB':>15} {'MFU':>5}"
    lines = [title, head]
    for row in rows:
        utilisation = row.get("model_flops_utilisation")
        used = "" if utilisation is None else f"{utilisation:.0%}"
        lines.append(
            f"{row['name']:20} {row['turns']:5} {row['seconds']:7.2f} {row['time_share']:6.0%} "
            f"{row['flops_share']:6.0%} {row['activations_gib']:6.1f} {row['activations_share']:5.0%} "
            f"{row['total_gib']:9.1f} {row['total_share']:5.0%} {used:>5}"
        )
        lines += [f"  {warning}" for warning in row.get("warnings", [])]
    return "\n".join([*lines, ""])


def growth_table(title: str, rows: list[Row]) -> str:
    """As work grows, in plain text."""
    lines = [title, f"{'completions':>11} {'s':>7} {'ms a kept token':>16} {'total GiB':>10}"]
    for row in rows:
        lines.append(
            f"{row['completions']:11} {row['seconds']:7.2f} {1e3 * row['seconds_per_kept_token']:16.4f} "
            f"{row['total_gib']:10.1f}"
        )
    return "\n".join([*lines, ""])


def shares(rows: list[Row]) -> None:
    """Put memory as a share of the first row's into each."""
    for row in rows:
        for kind in ("activations", "total"):
            whole = rows[0][f"{kind}_gib"]
            row[f"{kind}_share"] = row[f"{kind}_gib"] / whole if whole else float("nan")


def against_targets(cases: dict[str, Row]) -> dict[str, Row]:
    """What each comparison found of what is aimed at; nothing of cases that were lost or not reached."""
    found = {}
    for name, case in cases.items():
        rows = case["rows"]
        if len(rows) < 2 or "activations_share" not in rows[1]:
            continue
        full, half = rows[:2]
        found[name] = {
            "time_saved": 1 - half["time_share"],
            "flops_saved": 1 - half["flops_share"],
            "activations_saved": 1 - half["activations_share"],
            "total_peak_saved": 1 - half["total_share"],
            "model_flops_utilisation": full.get("model_flops_utilisation"),
        }
    return found


def summary(found: dict[str, Row]) -> str:
    """The targets in words, a line each."""
    lines = []
    for name, values in found.items():
        parts = [
            f"{what.replace('_', ' ')} {value:.0%}" + (f" (target {TARGETS[what]:.0%})" if what in TARGETS else "")
            for what, value in values.items()
            if value is not None
        ]
        lines.append(f"{name}: {', '.join(parts)}")
    return "\n".join(lines)


def write(report: Row, path: Path) -> None:
    """All or nothing: whoever ends the run meanwhile leaves the file of the case before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    os.replace(beside, path)
