"""Controls drawn from the spec's own schema: fields, choices between kinds, and lists whose rows are added by hand.

Every control is known by its JSON pointer: into `ExperimentSpec`, or into the row that it stands in. Help, bounds,
choices and defaults are the schema's; only the titles of kinds and some labels are written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from web.schema import Schema, core, members, named, options, row

KINDS = {
    "data": {
        "demo_arithmetic": "Built-in arithmetic",
        "gsm8k": "GSM8K",
        "math500": "MATH-500",
        "huggingface": "Hugging Face data set",
        "jsonl": "JSON-lines file",
        "csv": "CSV file",
        "parquet": "Parquet file",
        "reasoning_gym": "reasoning-gym tasks",
    },
    "reward": {
        "exact_match": "Exact match",
        "math_verify": "Mathematical equality",
        "format": "Format",
        "length": "Length",
        "reasoning_gym": "reasoning-gym’s own verifier",
        "custom": "Function of your own",
        "sum": "Weighted sum",
    },
}
"""What a choice between kinds calls each of them, in the order in which they are offered."""

_LABELS = {
    "/name": "Question",
    "/base/model/path": "Model",
    "/base/data": "Kind of data",
    "/base/reward": "Kind of reward",
    "/base/rollout/num_prompts": "Prompts per step",
    "/base/rollout/num_generations": "Completions per prompt",
    "/base/rollout/max_completion_length": "Longest completion, tokens",
    "/base/evaluation/every": "Evaluate every … steps",
    "/base/evaluation/num_prompts": "Held-out prompts",
    "/base/evaluation/num_samples": "Samples per prompt",
    "/base/evaluation/sets": "Named sets",
    "/num_prompts": "Questions",
    "/num_samples": "Samples per question",
}
_FIELD_ORDER = {"path": 1, "on_bad_row": 3, "prompt_template": 4}
_VERBATIM = ("prompt_field", "answer_field", "pattern", "answer_pattern")
"""Text in which spaces at its ends mean something: the names of columns, and patterns, which may have several lines."""
_PATTERNS = ("pattern", "answer_pattern")
NOUNS = {"parts": "part", "sets": "set"}
"""What one row of a list is called."""

_TYPES = {
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "string": "string",
    "object": "mapping",
}


@dataclass(frozen=True)
class Field:
    """One control for one value.

    `kind` is integer, number, string, boolean, mapping, which is written as JSON, or character, of which a tab is
    written as `\\t`; a field with `choices` is a list to pick from. `rows` counts the lines of a text that may have
    several, and is 0 for others; `verbatim` text is taken with the spaces at its ends. `scope` tells fields of one
    pointer apart: by list, by kind.
    """

    pointer: str
    name: str
    label: str
    help: str
    kind: str
    bounds: str
    choices: tuple[str, ...]
    nullable: bool
    default: str
    value: str
    rows: int
    verbatim: bool = False
    scope: str = ""
    widget = "field"

    @property
    def id(self) -> str:
        return _id(self.scope, self.pointer)


@dataclass(frozen=True)
class Kind:
    """One of the kinds that a choice offers, and the controls of its own."""

    tag: str
    title: str
    help: str
    controls: tuple[Control, ...]


@dataclass(frozen=True)
class Choice:
    """A choice between kinds (`type` in the document); `chosen` is empty where none is, if that is allowed."""

    pointer: str
    label: str
    help: str
    kinds: tuple[Kind, ...]
    chosen: str
    nullable: bool
    scope: str = ""
    widget = "choice"

    @property
    def id(self) -> str:
        return _id(self.scope, self.pointer)


@dataclass(frozen=True)
class Rows:
    """A list whose rows are added and removed; the rows of a `named` one each have a name in place of a position.

    The page fills it from the document, for each row with a copy of the template `name`.
    """

    pointer: str
    name: str
    label: str
    help: str
    named: bool
    scope: str = ""
    widget = "rows"

    @property
    def noun(self) -> str:
        return NOUNS[self.name]


Control = Field | Choice | Rows


@dataclass(frozen=True)
class Item:
    """What each row of a list is made of."""

    name: str
    named: bool
    controls: tuple[Control, ...]

    @property
    def noun(self) -> str:
        return NOUNS[self.name]


def draw(pointer: str, value: Any) -> Control:
    """The control of what a pointer into an experiment names, filled with its value."""
    return make(pointer, named(pointer), value)


def item(pointer: str) -> Item:
    """What a row of the list at a pointer into an experiment is made of."""
    name, found = _name(pointer), row(core(named(pointer)))
    if found is None:
        raise LookupError(f"{pointer} is no list of rows")
    fields, has_names = found
    drawn = (make(f"/{key}", part, part.get("default"), name) for key, part in fields["properties"].items())
    return Item(name, has_names, tuple(drawn))


def make(pointer: str, schema: Schema, value: Any, scope: str = "") -> Control:
    """The control that a schema asks for."""
    inside = core(schema)
    if "discriminator" in inside:
        return _choice(pointer, schema, value, scope)
    rows = row(inside)
    if rows is None:
        return make_field(pointer, schema, value, scope)
    return Rows(pointer, _name(pointer), _label(pointer), str(schema.get("description", "")), rows[1], scope)


def _choice(pointer: str, schema: Schema, value: Any, scope: str) -> Choice:
    found = members(core(schema))
    titles = KINDS[_name(pointer)]
    tags = sorted(found, key=[*titles, *found].index)
    given = value if isinstance(value, Mapping) else {}
    nullable = len(options(schema)) > 1
    return Choice(
        pointer=pointer,
        label=_label(pointer),
        help=str(schema.get("description", "")),
        kinds=tuple(_kind(pointer, tag, titles.get(tag, tag), found[tag], given, scope) for tag in tags),
        chosen=given.get("type", "" if nullable else tags[0]),
        nullable=nullable,
        scope=scope,
    )


def _kind(pointer: str, tag: str, title: str, schema: Schema, value: Mapping[str, Any], scope: str) -> Kind:
    values = value if value.get("type") == tag else {}
    own = f"{scope}-{tag}".lstrip("-")
    fields = sorted(schema["properties"].items(), key=_place)
    controls = tuple(
        make(f"{pointer}/{name}", part, values.get(name, part.get("default")), own)
        for name, part in fields
        if name != "type"
    )
    return Kind(tag, title, " ".join(str(schema.get("description", "")).split()), controls)


def _place(field: tuple[str, Schema]) -> int:
    """What must be said comes first, then where the rows are, and last what is rarely changed."""
    name, schema = field
    return 0 if "default" not in schema else _FIELD_ORDER.get(name, 2)


def make_field(pointer: str, schema: Schema, value: Any, scope: str = "") -> Field:
    """The control of a plain value."""
    merged = {**core(schema), **{key: part for key, part in schema.items() if key != "anyOf"}}
    name = _name(pointer)
    kind = _kind_of(merged)
    written = _character if kind == "character" else text_of
    return Field(
        pointer=pointer,
        name=name,
        label=_label(pointer),
        help=str(merged.get("description", "")) + (" `\\t` is a tab." if kind == "character" else ""),
        kind=kind,
        bounds=bounds_text(merged),
        choices=tuple(str(choice) for choice in merged.get("enum", ())),
        nullable=len(options(schema)) > 1,
        default=written(schema.get("default")),
        value=written(value),
        rows=3 if merged.get("maxLength", 0) >= 20_000 else 1 if name in _PATTERNS else 0,
        verbatim=name in _VERBATIM,
        scope=scope,
    )


def _kind_of(schema: Schema) -> str:
    return "character" if schema.get("maxLength") == 1 else _TYPES.get(str(schema.get("type")), "string")


def bounds_text(schema: Schema) -> str:
    """The bounds in words: `1 to 4,096`, `above 0, at most 1`; empty where there are none."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low == 0 and len({"minimum", "maximum", "exclusiveMaximum"} & set(schema)) == 1:
        return ""  # what cannot be below zero needs no saying
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    parts = [
        f"{words} {bound:,}"
        for words, bound in (("at least", low), ("above", above), ("at most", high), ("below", below))
        if bound is not None
    ]
    return ", ".join(parts)


def _character(value: Any) -> str:
    return "\\t" if value == "\t" else text_of(value)


def text_of(value: Any) -> str:
    """A value as it stands in a control, whole: what is read back is the same. What is not set is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        short = f"{value:.12g}"
        return short if float(short) == value else repr(value)
    return value if isinstance(value, str) else json.dumps(value)


def _name(pointer: str) -> str:
    return pointer.rsplit("/", 1)[1]


def _label(pointer: str) -> str:
    return _LABELS.get(pointer, _name(pointer).replace("_", " ").capitalize())


def _id(scope: str, pointer: str) -> str:
    return f"f{'-' + scope if scope else ''}{pointer.replace('/', '-')}"
