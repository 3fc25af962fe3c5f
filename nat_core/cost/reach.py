"""How far each budget lets the layers run: the chance `reach(b, T, t)` that token t of T is run over. No torch here.

`optimal` is taken to cut as `linear` does, which it does at first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from nat_core.spec import BudgetSpec

Reach = Callable[[float, int, float], float]
"""Of fraction b, a completion's length T and a position t from 1: never rising with t."""


def _linear(b: float, length: int, t: float) -> float:
    high = min(1.0, 1.6 * b)
    return high - (2 * high - 2 * b) * (t - 0.5) / length


def _uniform(b: float, length: int, t: float) -> float:
    always = max(1, math.ceil((2 * b - 1) * length - 1e-9))
    return 1.0 if t <= always else (length - t + 1) / (length - always + 1)


def _to_the_last_kept(b: float, length: int, t: float) -> float:
    return 1 - math.pow(1 - b, length - t + 1)


_LAWS: dict[str, Reach] = {"linear": _linear, "uniform": _uniform, "optimal": _linear}
_SELECTORS: dict[str, Reach] = {
    "full": lambda b, length, t: 1.0,
    "urs": _to_the_last_kept,
    "importance": _to_the_last_kept,
    "top_surprisal": _to_the_last_kept,
    "completions": lambda b, length, t: b,
    "truncate": lambda b, length, t: 1.0 if t <= math.ceil(b * length - 1e-9) else 0.0,
}


def reach_of(budget: BudgetSpec) -> Reach:
    return _LAWS[budget.law] if budget.selector == "rpc" else _SELECTORS[budget.selector]


def fraction_of(budget: BudgetSpec) -> float:
    return 1.0 if budget.selector == "full" else budget.fraction


def kept_of(budget: BudgetSpec, length: int) -> float:
    """Tokens selected of a completion, on average."""
    b = fraction_of(budget)
    if budget.selector == "truncate":
        return math.ceil(b * length - 1e-9)
    if budget.selector == "rpc" and budget.law == "uniform":
        return (max(1, math.ceil((2 * b - 1) * length - 1e-9)) + length) / 2
    return b * length
