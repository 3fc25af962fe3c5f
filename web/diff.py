"""Configurations side by side: only the fields in which they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from web.formatting import NOTHING


@dataclass(frozen=True)
class Difference:
    """One field, dotted as in a spec file, with each configuration's value; `values` are as many as there are."""

    field: str
    values: tuple[str, ...]


def differences(documents: Sequence[Mapping[str, Any]], without: Sequence[str] = ()) -> list[Difference]:
    """The fields whose values are not all the same, in the order in which they stand. A missing one reads as a dash."""
    flat = [dict(_leaves(document)) for document in documents]
    rows = [
        (name, tuple(leaves.get(name, NOTHING) for leaves in flat)) for name in _merged(flat) if name not in without
    ]
    return [Difference(name, values) for name, values in rows if len(set(values)) > 1]


def _merged(flat: Sequence[Mapping[str, str]]) -> list[str]:
    """Every name once; one that only a later configuration has stands behind the one before it there."""
    names: list[str] = []
    for leaves in flat:
        place = 0
        for name in leaves:
            if name not in names:
                names.insert(place, name)
            place = names.index(name) + 1
    return names


def _leaves(document: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in document.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
