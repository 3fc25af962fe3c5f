"""The spec's own JSON schema, from which the launch form is drawn: references followed, unions by their tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from nat_core.spec import ExperimentSpec

Schema = Mapping[str, Any]


@cache
def root() -> dict[str, Any]:
    """That of an experiment."""
    return ExperimentSpec.model_json_schema()


def deref(schema: Schema) -> dict[str, Any]:
    """A schema with what it refers to in its place."""
    reference = schema.get("$ref")
    if reference is None:
        return dict(schema)
    found = root()["$defs"][reference.rsplit("/", 1)[1]]
    return {**found, **{key: part for key, part in schema.items() if key != "$ref"}}


def options(schema: Schema) -> Sequence[Schema]:
    """What a value may be: null and something else, or one thing."""
    found: Sequence[Schema] = schema.get("anyOf", [schema])
    return found


def core(schema: Schema) -> dict[str, Any]:
    """What a value is when it is not null."""
    return deref(next((option for option in options(schema) if option.get("type") != "null"), schema))


def members(union: Schema) -> dict[str, dict[str, Any]]:
    """The members of a tagged union, by tag."""
    mapping: Mapping[str, str] = union["discriminator"]["mapping"]
    return {tag: deref({"$ref": reference}) for tag, reference in mapping.items()}


def named(pointer: str) -> Schema:
    """The schema of what a pointer into an experiment names; a member of a union is named by its tag."""
    schema: Schema = root()
    for part in pointer.split("/")[1:]:
        inside = core(schema)
        schema = members(inside)[part] if "discriminator" in inside else inside["properties"][part]
    return schema


def row(inside: Schema) -> tuple[dict[str, Any], bool] | None:
    """The schema of a row, and whether rows have names, where a schema is of a list or a table of objects."""
    if inside.get("type") == "array":
        each, has_names = inside["items"], False
    else:
        patterns = inside.get("patternProperties")
        each, has_names = (next(iter(patterns.values())) if patterns else inside.get("additionalProperties")), True
    found = deref(each) if isinstance(each, Mapping) else {}
    return (found, has_names) if "properties" in found else None
