"""Metrics as a DataFrame, by narwhals: of pandas or of polars, whichever is installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any, Literal, get_args

from client.errors import ClientError
from nat_core.events import METRICS
from nat_core.records import MetricSeries, RunRecord

Library = Literal["pandas", "polars"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
ALL_KEYS = tuple(METRICS)


def library(wanted: Library | None = None) -> Library:
    """The DataFrame library to use: the one wanted, else the first that is installed.

    Raises:
        ClientError: when it, or narwhals, is not installed.
    """
    if wanted is not None and wanted not in LIBRARIES:
        raise ClientError(f"backend is {wanted!r}, but it is one of {', '.join(LIBRARIES)}; choose one")
    installed = [name for name in LIBRARIES if find_spec(name) is not None]
    if find_spec("narwhals") is None or not installed or (wanted or installed[0]) not in installed:
        needed = wanted or "pandas"
        raise ClientError(
            f"metrics() makes a DataFrame, which needs narwhals and {wanted or 'pandas or polars'}; "
            f"pip install 'natlab[client]' {needed}, or take metric_series(), which needs neither"
        )
    return wanted or installed[0]


def keys_with(sets: Iterable[str]) -> list[str]:
    """Every metric of a run that is asked these named sets of questions besides its own."""
    own = [key for key in ALL_KEYS if key.startswith("eval/")]
    return [*ALL_KEYS, *(f"eval/{name}/{key.removeprefix('eval/')}" for name in sets for key in own)]


def frame(
    runs: Sequence[RunRecord],
    series: Sequence[MetricSeries],
    x: str,
    keys: Sequence[str],
    library: Library,
    only_told: bool = False,
) -> Any:
    """A row for each run and place on the axis, a column for each metric.

    Args:
        keys: what was asked for, in the order of the columns.
        only_told: leave out columns without a value.
    """
    import narwhals as nw

    cells: dict[tuple[str, float], dict[str, float | None]] = {}
    for one in series:
        for place, value in zip(one.x, one.y, strict=True):
            cells.setdefault((one.run_id, place), {})[one.key] = value
    told = {one.key for one in series}
    shown = [key for key in dict.fromkeys(keys) if key in told or not only_told]
    order = {run.id: position for position, run in enumerate(runs)}
    rows = sorted((place for place in cells if place[0] in order), key=lambda place: (order[place[0]], place[1]))
    by_id = {run.id: run for run in runs}
    floats = {key: [cells[row].get(key) for row in rows] for key in shown}
    columns: dict[str, list[Any]] = {
        "experiment_id": [by_id[run_id].experiment_id for run_id, _ in rows],
        "run_id": [run_id for run_id, _ in rows],
        "budget": [by_id[run_id].label for run_id, _ in rows],
        "seed": [by_id[run_id].seed for run_id, _ in rows],
        x: [int(place) if x == "step" else place for _, place in rows],
        **floats,
    }
    texts = dict.fromkeys(("experiment_id", "run_id", "budget"), nw.String())
    schema = {**texts, "seed": nw.Int64(), x: nw.Int64() if x == "step" else nw.Float64()}
    schema |= dict.fromkeys(shown, nw.Float64())
    return nw.from_dict(columns, schema=schema, backend=library).to_native()
