"""`?fields=id,state`: only the parts of a record that the caller wants."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from nat_core.records import Page, Record
from server.errors import BadQueryError

R = TypeVar("R", bound=Record)

Fields = Annotated[
    str | None, Query(max_length=500, description="Only these fields of each record, separated by commas; else all.")
]


class Part(BaseModel):
    """The fields of a record that were asked for."""

    model_config = ConfigDict(extra="allow")


def only(record: R, fields: str | None) -> R | Part:
    """The record, or the part of it that `fields` names."""
    return record if fields is None else _part(record, _names(type(record), fields))


def only_page(page: Page[R], record: type[R], fields: str | None) -> Page[R] | Page[Part]:
    """The same for every record of a page."""
    if fields is None:
        return page
    names = _names(record, fields)
    return Page[Part](items=[_part(item, names) for item in page.items], next_cursor=page.next_cursor)


def _part(record: Record, names: set[str]) -> Part:
    return Part.model_validate(record.model_dump(mode="json", include=names))


def _names(record: type[Record], fields: str) -> set[str]:
    names = {part.strip() for part in fields.split(",") if part.strip()}
    unknown = sorted(names - record.model_fields.keys())
    if unknown or not names:
        known = ", ".join(record.model_fields)
        raise BadQueryError(f"fields is {fields[:80]!r}, but it names some of {known}; correct it")
    return names
