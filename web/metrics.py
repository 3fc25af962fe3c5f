"""Which metrics the runs of a spec report: those that every run has, and those of its named sets of questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nat_core.events import METRICS, MetricInfo, Panel, metric_info
from nat_core.spec import RunSpec

Metrics = Mapping[str, MetricInfo]
_EVALUATED = {key.removeprefix("eval/"): info for key, info in METRICS.items() if key.startswith("eval/")}
_LAST = {info.panel: f"eval/{part}" for part, info in _EVALUATED.items()}
"""The last of the run's own in each panel, after which those of sets stand."""


def metrics_of(specs: Iterable[RunSpec]) -> dict[str, MetricInfo]:
    """Every metric that runs of these specs may report, in the order of METRICS; named sets follow the run's own."""
    found: dict[str, MetricInfo] = {}
    names = list(dict.fromkeys(name for spec in specs for name in spec.evaluation.sets))
    for key, info in METRICS.items():
        found[key] = info
        if key in _LAST.values():
            found.update(_of_sets(names, info.panel))
    return found


def set_accuracies(metrics: Metrics) -> list[str]:
    """The accuracies of named sets, in their order."""
    return [key for key in metrics if key not in METRICS and key.endswith("/accuracy")]


def _of_sets(names: Iterable[str], panel: Panel) -> dict[str, MetricInfo]:
    parts = [part for part, info in _EVALUATED.items() if info.panel is panel]
    keys = [f"eval/{name}/{part}" for name in names for part in parts]
    return {key: info for key in keys if (info := metric_info(key)) is not None}
