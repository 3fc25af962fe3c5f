"""One step's metrics out of those of its optimizer steps."""

from __future__ import annotations

_SUMMED = (
    "tokens/selected",
    "tokens/trunk",
    "tokens/padded",
    "flops/update",
    "timing_s/update",
    "timing_s/forward_backward",
)


def combined(steps: list[dict[str, float]]) -> dict[str, float]:
    """Metrics of a rollout batch's optimizer steps in one: work adds up, the rest is averaged, peaks are kept."""
    merged = {}
    for key in dict.fromkeys(key for metrics in steps for key in metrics):
        values = [metrics[key] for metrics in steps if key in metrics]
        if key in _SUMMED:
            merged[key] = sum(values)
        elif key in ("perf/peak_memory_gib", "budget/max_weight"):
            merged[key] = max(values)
        else:
            merged[key] = sum(values) / len(values)
    return merged
