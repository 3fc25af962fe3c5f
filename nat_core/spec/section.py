"""The base of every part of a spec, and of every body that the API takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator


class Closed(BaseModel):
    """Closed to unknown keys, to numbers that are not finite, and to true and false where a number belongs."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, document: Any) -> Any:
        if not isinstance(document, Mapping):
            return document
        return {key: _marked(value) if key in _numbers(cls) else value for key, value in document.items()}


class Section(Closed):
    """A part of a spec: immutable."""

    model_config = ConfigDict(frozen=True)


class _Truth:
    """Stands for true or false where a number belongs.

    pydantic would take a bool for 1 or 0, which no schema of numbers allows. This it refuses, with the field's name
    and in the words that it has for every wrong type.
    """

    def __init__(self, value: bool) -> None:
        self._value = value

    def __repr__(self) -> str:
        return str(self._value).lower()


def _marked(value: Any) -> Any:
    if isinstance(value, bool):
        return _Truth(value)
    if isinstance(value, list | tuple):
        return [_marked(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _marked(item) for key, item in value.items()}
    return value


@cache
def _numbers(model: type[Closed]) -> frozenset[str]:
    """The fields that take numbers, alone or in lists and mappings, and no truth values."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if _takes(field.annotation, (int, float)) and not _takes(field.annotation, (bool,))
    )


def _takes(annotation: Any, kinds: tuple[type, ...]) -> bool:
    if get_origin(annotation) is Literal:
        return False
    return annotation in kinds or any(_takes(part, kinds) for part in get_args(annotation))
