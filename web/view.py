"""What of a page stands in its URL: the table's sort, filter, columns and selection.

Addresses are shared, typed and old: what is not known in one counts as not said, and is never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

TABLES = ("budgets", "runs")
_MAX_FILTER = 200


@dataclass(frozen=True)
class TableView:
    """How a table is shown. `sort` is a column's key, with a minus in front for the highest first."""

    table: str = TABLES[0]
    sort: str = ""
    words: str = ""
    columns: tuple[str, ...] = ()
    selected: frozenset[str] = frozenset()

    @property
    def sort_key(self) -> str:
        return self.sort.removeprefix("-")

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-")


def table_view(query: Mapping[str, str]) -> TableView:
    """Read `table`, `sort`, `q`, `cols` and `sel` from an address."""
    return TableView(
        table=query.get("table", "") if query.get("table") in TABLES else TABLES[0],
        sort=query.get("sort", ""),
        words=query.get("q", "")[:_MAX_FILTER],
        columns=listed(query.get("cols", "")),
        selected=frozenset(listed(query.get("sel", ""))),
    )


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def link(query: Mapping[str, str], **changes: str | None) -> str:
    """The address of this page with some of its parameters changed; None takes one out."""
    kept = {**query, **changes}
    return "?" + urlencode({key: value for key, value in kept.items() if value is not None}, safe=",/")
