"""The numbers behind a chart as rows, and rows as CSV or JSON: all of them, neither thinned nor smoothed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Literal

from nat_core.comparison import Comparison, Estimate
from nat_core.records import MetricSeries, RunRecord

Value = str | float | int | None
Rows = list[dict[str, Value]]
Kind = Literal["csv", "json"]
MEDIA_TYPES: dict[Kind, str] = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ESTIMATES = (
    "accuracy",
    "difference",
    "fraction",
    "tokens_selected",
    "forward_backward_s",
    "step_s",
    "peak_memory_gib",
)


def series_rows(runs: Sequence[RunRecord], series: Sequence[MetricSeries], x: str) -> Rows:
    """One row a value: which run, where on the axis, the value."""
    by_id = {run.id: run for run in runs}
    return [
        {
            "run": run.id,
            "experiment": run.experiment_id,
            "budget": run.label,
            "seed": run.seed,
            "state": str(run.state),
            "metric": one.key,
            x: at,
            "value": value,
        }
        for one in series
        for run in (by_id[one.run_id],)
        for at, value in zip(one.x, one.y, strict=True)
    ]


def run_rows(runs: Sequence[RunRecord]) -> Rows:
    """One row a run: what it is, how it went, and its newest value of every metric that any of them has."""
    metrics = dict.fromkeys(key for run in runs for key in run.latest)
    return [
        {
            "run": run.id,
            "experiment": run.experiment_id,
            "budget": run.label,
            "seed": run.seed,
            "state": str(run.state),
            "reason": run.reason,
            "step": run.step,
            "steps": run.steps,
            "started_at": run.started_at.isoformat() if run.started_at else None,
            "finished_at": run.finished_at.isoformat() if run.finished_at else None,
            "worker": run.worker_id,
            **{key: run.latest.get(key) for key in metrics},
        }
        for run in runs
    ]


def comparison_rows(comparison: Comparison) -> Rows:
    """One row a budget: means with their intervals, and what it saved."""
    rows: Rows = []
    for cell in comparison.cells:
        row: dict[str, Value] = {"budget": cell.label, "verdict": str(cell.verdict), "seeds": cell.num_finished}
        for name in _ESTIMATES:
            row.update(_bounds(name, getattr(cell, name)))
        for name, saved in cell.savings.items():
            row.update(_bounds(f"saved_{name}", saved))
        rows.append(row)
    return rows


def _bounds(name: str, estimate: Estimate | None) -> dict[str, Value]:
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def written(rows: Rows, kind: Kind) -> str:
    return json.dumps(rows, ensure_ascii=False) if kind == "json" else _csv(rows)


def _csv(rows: Rows) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _plain(value: Value) -> Value:
    """Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def file_name(about: Sequence[str], kind: Kind) -> str:
    """`exp-abc-eval-accuracy.csv`, from what the file is about."""
    words = "-".join(about)
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in words) + f".{kind}"
