"""The launch form, drawn from the spec's own schema: help, bounds, choices and defaults stand there once.

Every control is known by its JSON pointer into `ExperimentSpec`; the browser builds the document
from the pointers, and the server's faults find their control by the same pointers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nat_core.spec import BudgetSpec, ExperimentSpec

_LABELS = {
    "/name": "Question",
    "/base/model/path": "Model",
    "/base/data/path": "Training rows (JSON lines)",
    "/base/rollout/num_prompts": "Prompts per step",
    "/base/rollout/num_generations": "Completions per prompt",
    "/base/rollout/max_completion_length": "Longest completion, tokens",
    "/base/evaluation/every": "Evaluate every … steps",
    "/base/evaluation/num_prompts": "Held-out prompts",
    "/base/evaluation/num_samples": "Samples per prompt",
    "/margin": "Margin",
}
MAIN = (
    "/name",
    "/base/model/path",
    "/base/steps",
    "/base/rollout/num_prompts",
    "/base/rollout/num_generations",
    "/base/rollout/max_completion_length",
    "/base/optim/learning_rate",
    "/base/evaluation/every",
    "/base/evaluation/num_prompts",
    "/base/evaluation/num_samples",
    "/margin",
)
DATA_TYPES = {"demo_arithmetic": "Built-in arithmetic", "jsonl": "JSON-lines file"}
_NEVER = ("/base/data", "/base/budget", "/base/seed")  # drawn apart, or set by the experiment
_NO_LEAF = ("object", "array")  # what has parts of its own is written in the YAML file
_BUDGET: TypeAdapter[Any] = TypeAdapter(BudgetSpec)
_KINDS = {"integer": "integer", "number": "number", "boolean": "boolean", "string": "string"}


@dataclass(frozen=True)
class Field:
    """One control. `kind` is integer, number, string or boolean; a field with `choices` is a list to pick from."""

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
    long: bool

    @property
    def id(self) -> str:
        return "f" + self.pointer.replace("/", "-")


@dataclass(frozen=True)
class BudgetField:
    """A control of a budget row, shown for the selectors in which the field says something.

    `limits` holds, by selector, the choices of another field that leave this one a say: `floor` of `rpc` has one
    with `law` `optimal` alone. A selector that is not in it has none to heed.
    """

    name: str
    selectors: tuple[str, ...]
    field: Field
    limits: dict[str, tuple[str, tuple[str, ...]]]

    @property
    def shown_for(self) -> str:
        """What the page's script reads: `completions importance rpc:law=optimal`."""
        return " ".join(
            f"{selector}:{limit[0]}={'|'.join(limit[1])}" if (limit := self.limits.get(selector)) else selector
            for selector in self.selectors
        )

    def applies(self, budget: Mapping[str, str]) -> bool:
        """Whether it says something in this budget."""
        selector = budget["selector"]
        name, choices = self.limits.get(selector, ("", ()))
        return selector in self.selectors and (not choices or budget.get(name) in choices)


@dataclass(frozen=True)
class LaunchForm:
    """Everything the template draws."""

    main: dict[str, Field]
    data_type: str
    data: dict[str, list[Field]]
    budgets: list[dict[str, Any]]
    selectors: dict[str, str]
    budget_fields: list[BudgetField]
    baseline: int
    seeds: str
    tags: str
    expert: list[tuple[str, str, list[Field]]]


def launch_form(spec: ExperimentSpec) -> LaunchForm:
    """The form filled with a spec: the demo's, or that of the experiment being cloned."""
    document = spec.model_dump(mode="json")
    budgets = [{name: _text(value) for name, value in budget.items()} for budget in document["budgets"]]
    members = _union("/budgets/0")
    return LaunchForm(
        main={pointer: _field(pointer, document) for pointer in MAIN},
        data_type=document["base"]["data"]["type"],
        data={tag: _members_fields(tag, document) for tag in DATA_TYPES},
        budgets=budgets,
        selectors={tag: str(schema.get("description", "")) for tag, schema in members.items()},
        budget_fields=_budget_fields(members),
        baseline=spec.baseline,
        seeds=", ".join(str(seed) for seed in spec.seeds),
        tags=", ".join(spec.tags),
        expert=_expert_sections(document),
    )


def _members_fields(tag: str, document: Mapping[str, Any]) -> list[Field]:
    schema = _union("/base/data")[tag]
    data = document["base"]["data"]
    values = data if data["type"] == tag else {}
    return [
        _make_field(f"/base/data/{name}", part, values.get(name, part.get("default")))
        for name, part in schema["properties"].items()
        if name != "type"
    ]


def _budget_fields(members: Mapping[str, Any]) -> list[BudgetField]:
    """Fields of any selector that leave a choice; one that can have a single value is not asked for."""
    found: dict[str, list[str]] = {}
    schemas: dict[str, Any] = {}
    for tag, schema in members.items():
        for name, part in schema["properties"].items():
            if name != "selector" and "const" not in part:
                found.setdefault(name, []).append(tag)
                schemas.setdefault(name, part)
    return [
        BudgetField(
            name,
            tuple(tags),
            _make_field(f"/{name}", schemas[name], schemas[name].get("default")),
            {tag: limit for tag in tags if (limit := _limit(tag, name, members[tag]["properties"])) is not None},
        )
        for name, tags in found.items()
    ]


def _limit(selector: str, name: str, fields: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """The other field whose choices decide whether this one may leave its default, and those that let it.

    The schema cannot say so, but the spec refuses what does not apply: it is asked.
    """
    other_value = _another(fields[name])
    for deciding, schema in fields.items():
        choices = schema.get("enum", ())
        if deciding == name or not choices:
            continue
        taken = [choice for choice in choices if _is_taken({"selector": selector, deciding: choice, name: other_value})]
        if 0 < len(taken) < len(choices):
            return deciding, tuple(taken)
    return None


def _another(schema: Mapping[str, Any]) -> Any:
    """A value within the field's own bounds that is not its default; the upper bound, where there is one."""
    others = [choice for choice in schema.get("enum", ()) if choice != schema.get("default")]
    return others[0] if others else schema.get("maximum", schema.get("default"))


def _is_taken(budget: Mapping[str, Any]) -> bool:
    try:
        _BUDGET.validate_python(budget)
    except ValidationError:
        return False
    return True


def _expert_sections(document: Mapping[str, Any]) -> list[tuple[str, str, list[Field]]]:
    """Every other field of the base run, by section, then those of the experiment itself."""
    sections = []
    base = _deref(_schema()["properties"]["base"])
    for name, part in base["properties"].items():
        pointer = f"/base/{name}"
        section = _section(pointer, part, document)
        if pointer not in _NEVER and "properties" in section:
            sections += _parts(name.capitalize(), pointer, section, document)
    own = [_field("/notes", document)]
    return [*sections, ("Experiment", "", own)]


def _parts(
    title: str, pointer: str, section: Mapping[str, Any], document: Mapping[str, Any]
) -> list[tuple[str, str, list[Field]]]:
    """A section, and the sections inside it, each with its fields; those without any are left out."""
    inner = {leaf: _deref(schema) for leaf, schema in section["properties"].items()}
    nested = {leaf: schema for leaf, schema in inner.items() if "properties" in schema}
    leaves = [
        f"{pointer}/{leaf}"
        for leaf, schema in inner.items()
        if leaf not in nested and "const" not in schema and schema.get("type") not in _NO_LEAF
    ]
    fields = [_field(leaf, document) for leaf in leaves if leaf not in MAIN]
    found = [(title, str(section.get("description", "")), fields)] if fields else []
    for leaf, schema in nested.items():
        found += _parts(f"{title}: {leaf}", f"{pointer}/{leaf}", schema, document)
    return found


def _section(pointer: str, schema: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """A section's schema; of one that comes in several types, that of the type the document has."""
    section = _deref(schema)
    if "discriminator" not in section or pointer in _NEVER:
        return section
    return _union(pointer)[document["base"][pointer.rsplit("/", 1)[1]]["type"]]


def _field(pointer: str, document: Mapping[str, Any]) -> Field:
    value: Any = document
    schema: Any = _schema()
    for part in pointer.split("/")[1:]:
        schema = _deref(schema)
        if "discriminator" in schema:
            schema = _deref({"$ref": schema["discriminator"]["mapping"][value["type"]]})
        value = value[part]
        schema = schema["properties"][part]
    return _make_field(pointer, schema, value)


def _make_field(pointer: str, schema: Mapping[str, Any], value: Any) -> Field:
    options = schema.get("anyOf", [schema])
    core = next((option for option in options if option.get("type") != "null"), schema)
    merged = {**core, **{key: item for key, item in schema.items() if key != "anyOf"}}
    name = pointer.rsplit("/", 1)[1]
    return Field(
        pointer=pointer,
        name=name,
        label=_LABELS.get(pointer, name.replace("_", " ").capitalize()),
        help=str(merged.get("description", "")),
        kind=_KINDS.get(str(merged.get("type")), "string"),
        bounds=bounds_text(merged),
        choices=tuple(str(choice) for choice in merged.get("enum", ())),
        nullable=len(options) > 1,
        default=_text(schema.get("default")),
        value=_text(value),
        long=merged.get("maxLength", 0) >= 20_000,
    )


def bounds_text(schema: Mapping[str, Any]) -> str:
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


def _text(value: Any) -> str:
    """A value as it stands in a control; what is not set is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    return value if isinstance(value, str) else json.dumps(value)


@cache
def _schema() -> dict[str, Any]:
    return ExperimentSpec.model_json_schema()


def _deref(schema: Mapping[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return dict(schema)
    found = _schema()["$defs"][reference.rsplit("/", 1)[1]]
    return {**found, **{key: item for key, item in schema.items() if key != "$ref"}}


def _union(pointer: str) -> dict[str, dict[str, Any]]:
    """Members of the tagged union at a pointer, by tag."""
    schema: dict[str, Any] = _schema()
    for part in pointer.split("/")[1:]:
        schema = _deref(schema)
        schema = schema["items"] if part.isdigit() else schema["properties"][part]
    mapping: Mapping[str, str] = schema["discriminator"]["mapping"]
    return {tag: _deref({"$ref": reference}) for tag, reference in mapping.items()}
