"""The spec reference, from the JSON schema that validates every spec."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nat_core.spec import ExperimentSpec, RunSpec
from scripts.docs_pages.tables import code, table

Schema = Mapping[str, Any]

_HEAD = """# Every field of a spec

A **run** is one training; `natlab train FILE` reads one. An **experiment** is a base run, budgets to compare and seeds;
`natlab launch FILE` and `POST /api/v1/experiments` take one. Files are YAML or JSON, see the commented ones in
[examples](../examples). A field that is not here is refused, and a value out of bounds is answered with the field, the
value, the rule and the remedy. Names and meanings are TRL's where it has them.

Where a section has a `type` (a budget: a `selector`), its other fields depend on it.
"""
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
_SIZES = {"minLength": "≥", "maxLength": "≤"}
_NUMBERS = {"minItems": "≥", "maxItems": "≤", "maxProperties": "≤"}
_TAGS = ("selector", "type")
_UNIONS = {
    "data": "Where prompts and answers come from.",
    "reward": "What a completion is worth.",
    "budget": "Which tokens are trained on.",
}


def page() -> str:
    whole = ExperimentSpec.model_json_schema()
    defs: dict[str, Schema] = whole["$defs"]
    run = defs["RunSpec"]
    parts = [
        _HEAD,
        _section("An experiment", whole, defs),
        _section("A run", run, defs),
        *(_field_section(name, field, defs) for name, field in run["properties"].items()),
        _section(code("model.lora"), defs["LoraSpec"], defs),
        _section("A question set", defs["QuestionSetSpec"], defs, "One of `evaluation.sets`."),
        _section("A part of a reward", defs["RewardPart"], defs, "One of `reward.parts`."),
    ]
    return "\n".join(part for part in parts if part)


def _field_section(name: str, field: Schema, defs: Mapping[str, Schema]) -> str:
    """A section of a run, or of a union each of its members; nothing for plain values."""
    members = [defs[_name(ref)] for ref in _refs(field)]
    if len(members) == 1:
        return _section(code(name), members[0], defs)
    found = [_member(name, member, defs) for member in members]
    return f"## {code(name)}\n\n" + "\n".join(found) if found else ""


def _member(name: str, member: Schema, defs: Mapping[str, Schema]) -> str:
    tag, value = next((tag, member["properties"][tag]["const"]) for tag in _TAGS if tag in member["properties"])
    about = _prose(member.get("description", ""))
    rows = [row for row in _rows(member, defs) if row[0] != code(tag)]
    fields = table(["field", "type", "unless set", "what it is"], rows) if rows else "No further fields.\n"
    return f"### {code(f'{name}.{tag}: {value}')}\n\n{about}\n\n{fields}"


def _section(title: str, schema: Schema, defs: Mapping[str, Schema], about: str = "") -> str:
    lines = " ".join(part for part in (about, _prose(schema.get("description", ""))) if part)
    return f"## {title}\n\n{lines}\n\n" + table(["field", "type", "unless set", "what it is"], _rows(schema, defs))


def _rows(schema: Schema, defs: Mapping[str, Schema]) -> Iterator[tuple[str, ...]]:
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        default = "needed" if name in required else _default(field)
        about = _about(field, defs)
        if schema.get("title") == "RunSpec" and name in _UNIONS:
            default, about = _of_union(name)
        yield code(name), _kind(field, defs), default, about


def _of_union(name: str) -> tuple[str, str]:
    """What a run takes unless told otherwise, and what the section is about."""
    chosen = getattr(RunSpec(), name)
    return code(next(getattr(chosen, tag) for tag in _TAGS if hasattr(chosen, tag))), _UNIONS[name]


def _about(field: Schema, defs: Mapping[str, Schema]) -> str:
    refs = list(_refs(field))
    described: str = field.get("description") or (defs[_name(refs[0])].get("description", "") if len(refs) == 1 else "")
    return _prose(described)


def _prose(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _default(field: Schema) -> str:
    if "default" not in field:
        return ""
    default = field["default"]
    if isinstance(default, dict) and set(default) & set(_TAGS):
        return code(next(str(default[tag]) for tag in _TAGS if tag in default))
    return "" if default is None else code(default if isinstance(default, str) and default else json.dumps(default))


def _kind(field: Schema, defs: Mapping[str, Schema]) -> str:
    """What a field takes, in words."""
    if "anyOf" in field:
        return " or ".join(_kind(one, defs) for one in field["anyOf"])
    if "oneOf" in field:
        return "one of those below" if len(field["oneOf"]) > 1 else "section"
    if "$ref" in field:
        return "section"
    if "enum" in field:
        return ", ".join(code(str(value)) for value in field["enum"])
    if "const" in field:
        return code(str(field["const"]))
    kind = field.get("type", "any")
    if kind == "array":
        inner = field.get("items", {})
        size = _within(field, _NUMBERS).strip()
        return f"list{f' ({size})' if size else ''} of {_plural(_kind(inner, defs))}"
    if kind == "object":
        return f"sections by name{_within(field, _NUMBERS)}" if "$ref" in str(field) else "mapping"
    names = {"string": "text", "boolean": "true or false", "null": "null", "integer": "whole number"}
    size = _within(field, _SIZES, " characters") if kind == "string" and field.get("maxLength", 0) != 1 else ""
    return names.get(kind, kind) + _within(field, _BOUNDS) + size


def _plural(kind: str) -> str:
    return re.sub(r"^(text|whole number|number|section)\b", lambda m: m[1] if m[1] == "text" else f"{m[1]}s", kind)


def _within(field: Schema, signs: Mapping[str, str], unit: str = "") -> str:
    """Bounds, such as ` > 0, ≤ 1`; a lower bound of one character or item goes without saying."""
    told = [
        f"{sign} {_number(field[key])}"
        for key, sign in signs.items()
        if key in field and not (key in ("minLength", "minItems") and field[key] <= 1)
    ]
    return f" {', '.join(told)}{unit}" if told else ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or float(value).is_integer() else f"{value:g}"


def _refs(field: Any) -> Iterator[str]:
    if isinstance(field, dict):
        if "$ref" in field:
            yield field["$ref"]
        for key in ("oneOf", "anyOf"):
            for one in field.get(key, []):
                yield from _refs(one)


def _name(ref: str) -> str:
    return ref.rpartition("/")[2]
