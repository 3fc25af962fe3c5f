"""What curves stand against and how they are drawn: the reader's choice, the same for every chart of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_SMOOTHING = 0.99

X_TITLES = {
    "step": "step",
    "tokens_selected": "tokens trained on",
    "tokens_generated": "tokens generated",
    "update_s": "seconds of updates",
    "wall_s": "wall-clock seconds",
}
X_HOVER = {
    "step": "step %{x}",
    "tokens_selected": "%{x:.4~s} tokens trained on",
    "tokens_generated": "%{x:.4~s} tokens generated",
    "update_s": "%{x:,.1f} s of updates",
    "wall_s": "%{x:,.1f} s, wall-clock",
}
"""What stands above the values of a place that is pointed at: a number alone does not say of what."""


@dataclass(frozen=True)
class Axes:
    """`x` is a key of `X_TITLES`; `smooth` the weight of the past, 0 to 0.99; `log` a logarithmic vertical axis."""

    x: str = "step"
    smooth: float = 0.0
    log: bool = False


def smoothed(values: Sequence[float | None], weight: float) -> list[float | None]:
    """Exponential moving average without the bias of its start, as TensorBoard draws it; gaps stay gaps.

    After n values the plain average from zero carries a total weight of 1 − w^n; dividing by it makes the first
    smoothed value the first value, and equal values stay as they are.
    """
    average, total = 0.0, 0.0
    out: list[float | None] = []
    for value in values:
        if value is None:
            out.append(None)
            continue
        average = weight * average + (1 - weight) * value
        total = weight * total + (1 - weight)
        out.append(average / total)
    return out
