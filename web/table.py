"""The comparison's tables: columns as data; rows filtered, sorted, and the best of each column marked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from nat_core.events import Direction
from web.badges import Badge
from web.view import TableView, link

T = TypeVar("T")
_NAME = "name"


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, the interval beside it, and what it sorts by (None comes last either way)."""

    text: str
    small: str = ""
    badge: Badge | None = None
    title: str = ""
    value: float | str | None = None
    best: bool = False


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column. `better` says which end is best; `chosen` whether it is shown unless the reader chooses."""

    key: str
    label: str
    cell: Callable[[T], Cell]
    help: str = ""
    better: Direction = Direction.NEITHER
    left: bool = False
    chosen: bool = True


@dataclass(frozen=True)
class Row(Generic[T]):
    """One row: what it is about, how it is named, and what selecting it selects."""

    id: str
    label: str
    item: T
    colour: int
    biased: bool = False
    note: str = ""
    url: str = ""
    pinned: bool = False
    runs: tuple[str, ...] = ()
    selected: bool = False
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Head:
    """A column's head: `order` is ascending, descending or empty; `url` sorts by it, the other way the next time."""

    key: str
    label: str
    help: str
    left: bool
    order: str
    url: str


@dataclass(frozen=True)
class Table:
    """A table as the page prints it. `num_hidden` counts the rows that the filter leaves out."""

    heads: tuple[Head, ...]
    rows: tuple[Row[object], ...]
    name: Head
    choices: tuple[tuple[str, str, str, bool], ...] = field(default=())  # key, label, help, shown
    num_hidden: int = 0


def make_table(
    title: str, columns: Sequence[Column[T]], rows: Iterable[Row[T]], view: TableView, query: Mapping[str, str]
) -> Table:
    """Lay the rows out as the address asks: its columns, its order, its filter.

    Pinned rows stay on top. Selected ones stay, whatever the filter: one is found and selected, then another.
    """
    shown = [column for column in columns if (column.key in view.columns if view.columns else column.chosen)]
    shown = shown or [column for column in columns if column.chosen]
    filled = _mark_best(
        [replace(row, cells=tuple(column.cell(row.item) for column in shown)) for row in rows],
        [column.better for column in shown],
    )
    marked = [replace(row, selected=row.id in view.selected) for row in filled]
    kept = [row for row in marked if row.pinned or row.selected or _matches(row, view.words)]
    return Table(
        heads=tuple(_head(c.key, c.label, c.help, c.left, c.better, view, query) for c in shown),
        rows=tuple(_sorted(kept, shown, view)),  # type: ignore[arg-type]
        name=_head(_NAME, title, "", True, Direction.LOWER, view, query),
        choices=tuple((column.key, column.label, column.help, column in shown) for column in columns),
        num_hidden=len(marked) - len(kept),
    )


def _mark_best(rows: list[Row[T]], better: Sequence[Direction]) -> list[Row[T]]:
    """The best number of each column that has a better end; of one row alone nothing is best, nor of equals."""
    marked = list(rows)
    for place, direction in enumerate(better):
        if direction is Direction.NEITHER:
            continue
        known = [(value, i) for i, row in enumerate(rows) if isinstance(value := row.cells[place].value, int | float)]
        if len({value for value, _ in known}) < 2:
            continue
        _, index = min(known) if direction is Direction.LOWER else max(known, key=lambda pair: (pair[0], -pair[1]))
        cells = list(marked[index].cells)
        cells[place] = replace(cells[place], best=True)
        marked[index] = replace(marked[index], cells=tuple(cells))
    return marked


def _matches(row: Row[T], words: str) -> bool:
    """Every word stands somewhere in the row, whatever the case."""
    parts = [row.label, row.note]
    for cell in row.cells:
        parts += [cell.text, cell.badge.word if cell.badge else ""]
    text = " ".join(parts).lower()
    return all(word in text for word in words.lower().split())


def _sorted(rows: list[Row[T]], columns: Sequence[Column[T]], view: TableView) -> list[Row[T]]:
    keys = [column.key for column in columns]
    pinned = [row for row in rows if row.pinned]
    rest = [row for row in rows if not row.pinned]
    if view.sort_key == _NAME:
        rest.sort(key=lambda row: row.label, reverse=view.descending)
    elif view.sort_key in keys:
        place = keys.index(view.sort_key)
        known = [row for row in rest if row.cells[place].value is not None]
        unknown = [row for row in rest if row.cells[place].value is None]
        known.sort(key=lambda row: row.cells[place].value, reverse=view.descending)  # type: ignore[arg-type, return-value]
        rest = known + unknown
    return pinned + rest


def _head(
    key: str, label: str, help: str, left: bool, better: Direction, view: TableView, query: Mapping[str, str]
) -> Head:
    """A first press sorts the best to the top, a second the other way round, a third not at all."""
    order = ("descending" if view.descending else "ascending") if view.sort_key == key else ""
    first, second = (f"-{key}", key) if better is Direction.HIGHER else (key, f"-{key}")
    following = {"": first, first: second, second: None}[view.sort if order else ""]
    return Head(key, label, help, left, order, link(query, sort=following))
