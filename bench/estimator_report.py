"""The estimator's numbers as tables: one row a budget, equal tokens on the left, equal FLOPs on the right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]

_TOKENS: list[tuple[str, Callable[[Row], str]]] = [
    ("relative variance", lambda row: with_error(row["relative_variance"], row["relative_variance_se"])),
    ("cosine", lambda row: f"{row['cosine']:.3f}"),
    ("error of the mean (noise alone)", lambda row: f"{row['error_of_mean']:.2f} ({row['noise_of_mean']:.2f})"),
    ("FLOPs", lambda row: f"{row['flops_share']:.0%}"),
    ("their variation", lambda row: f"{row['flops_cv']:.1%}"),
]
_FLOPS: list[tuple[str, Callable[[Row], str]]] = [
    ("b at equal FLOPs", lambda row: f"{row['fraction']:.3g}"),
    ("relative variance", lambda row: with_error(row["relative_variance"], row["relative_variance_se"])),
    ("cosine", lambda row: f"{row['cosine']:.3f}"),
    ("variation of FLOPs", lambda row: f"{row['flops_cv']:.1%}"),
]
HEAD = ["budget", *(head for head, _ in _TOKENS + _FLOPS)]


def show(report: dict[str, Any]) -> None:
    """Print the tables to a terminal."""
    console = Console(width=180)
    for name, case in report["cases"].items():
        table = Table(*HEAD, title=f"{name}: {about(case)}", title_justify="left", box=None)
        for cells in table_rows(case["rows"]):
            table.add_row(*cells)
        console.print(table)


def markdown(report: dict[str, Any]) -> str:
    """The tables for a document."""
    return "\n\n".join(_markdown(name, case) for name, case in report["cases"].items())


def _markdown(name: str, case: dict[str, Any]) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *table_rows(case["rows"])]
    return f"`{name}`: {about(case)}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def about(case: dict[str, Any]) -> str:
    """The batch in a sentence."""
    batch = case["batch"]
    return (
        f"{batch['parameters'] / 1e6:.1f}M parameters, {batch['live_completions']} live completions of "
        f"{batch['shortest']} to {batch['longest']} tokens (median {batch['median']}), {batch['live_tokens']:,} in all."
    )


def table_rows(rows: list[Row]) -> Iterator[list[str]]:
    """The cells of each budget, both arms side by side."""
    by_arm: dict[str, dict[str, Row]] = {"tokens": {}, "flops": {}}
    for row in rows:
        by_arm[row["arm"]][row["name"]] = row
    for name, row in by_arm["tokens"].items():
        label = name + (" (biased)" if row["biased"] else "")
        yield [label, *(text(row) for _, text in _TOKENS), *_flops_cells(by_arm["flops"][name])]


def _flops_cells(row: Row) -> list[str]:
    if row["reached"]:
        return [text(row) for _, text in _FLOPS]
    return [f"cannot: {row['flops_share']:.0%} at b = {row['fraction']:.3g}"] + ["–"] * (len(_FLOPS) - 1)


def with_error(value: float, error: float) -> str:
    """`0.42 ± 0.01`; what is next to nothing, and what does not vary, without an error."""
    if value < 0.005:
        return f"{value:.1g}"
    return f"{value:.2f}" + (f" ± {error:.2f}" if error >= 0.00005 else "")
