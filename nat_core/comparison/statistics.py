"""Intervals, the paired t-test of non-inferiority, and the rule for testing many budgets at one level."""

from __future__ import annotations

import math
from itertools import takewhile
from statistics import NormalDist

from nat_core.comparison.records import Estimate
from nat_core.spec import ExperimentSpec

_LEVEL = 0.025  # one-sided


def mean_interval(values: list[float]) -> Estimate:
    """Mean with its 95% t interval; no bounds from a single value."""
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return Estimate(mean=mean, num_seeds=count)
    half = _t_quantile(1 - _LEVEL, count - 1) * _standard_error(values)
    return Estimate(mean=mean, low=mean - half, high=mean + half, num_seeds=count)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95% Wilson interval of a share seen in `count` independent answers."""
    z = NormalDist().inv_cdf(1 - _LEVEL)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def passing_cells(spec: ExperimentSpec, p_values: dict[int, float]) -> set[int]:
    """Cells whose non-inferiority holds under the multiple-testing rule; a cell without enough pairs has p = 1.

    Each selector family (selector and law) is tested from its largest fraction down and stops at the first failure. The
    families share the level equally; one that passes whole hands its share to the others, which for families of one
    cell is Holm's procedure. (A share is never both spent further down a family and handed on: Bretz et al. 2009.)
    """
    families: dict[tuple[str, str], list[int]] = {}
    for cell in p_values:
        budget = spec.budgets[cell]
        families.setdefault((budget.selector, getattr(budget, "law", "")), []).append(cell)
    for members in families.values():
        members.sort(key=lambda cell: -getattr(spec.budgets[cell], "fraction", 1.0))
    passing: set[int] = set()
    open_families = list(families.values())
    while open_families:
        rejected = {cell for cell, p in p_values.items() if p <= _LEVEL / len(open_families)}
        for members in open_families:
            passing.update(takewhile(rejected.__contains__, members))
        still_open = [members for members in open_families if not passing.issuperset(members)]
        if len(still_open) == len(open_families):
            break
        open_families = still_open
    return passing


def seeds_to_settle(differences: list[float], margin: float) -> int | None:
    """Seeds at which a 95% interval of this spread would clear the margin; None when no number would.

    The mean and spread seen so far are taken as true, so this is orientation, not a promise.
    """
    mean = sum(differences) / len(differences)
    gap = abs(mean + margin)
    spread = _standard_error(differences) * math.sqrt(len(differences))
    if gap == 0:
        return None
    for count in range(len(differences) + 1, 1001):
        if _t_quantile(1 - _LEVEL, count - 1) * spread / math.sqrt(count) < gap:
            return count
    return None


def shows_spread(values: list[float]) -> bool:
    """Whether they differ by more than rounding. Equal ones give an interval of no width, which is no evidence:
    accuracies are counts, so the differences of two seeds agree by chance."""
    return not math.isclose(min(values), max(values), rel_tol=1e-9, abs_tol=1e-12)


def non_inferiority_p(differences: list[float], margin: float) -> float:
    """One-sided paired t-test of "mean difference <= -margin".

    1 with fewer than two pairs, so that the test of a later budget waits for this one's; 1 also where all differences
    are exactly equal (nothing learnt anywhere, say), because no spread was seen to judge by.
    """
    if len(differences) < 2 or not shows_spread(differences):
        return 1.0
    shift = sum(differences) / len(differences) + margin
    return 1 - _t_cdf(shift / _standard_error(differences), len(differences) - 1)


def _standard_error(values: list[float]) -> float:
    if not shows_spread(values):
        return 0.0  # a rounded mean would leave a spread that nobody saw
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return math.sqrt(squares / (len(values) - 1) / len(values))


def _t_quantile(probability: float, degrees: int) -> float:
    from scipy.special import stdtrit  # here, so that reading the models needs no scipy

    return float(stdtrit(degrees, probability))


def _t_cdf(value: float, degrees: int) -> float:
    from scipy.special import stdtr

    return float(stdtr(degrees, value))
