"""The launch form: which controls it has, and in which of its parts they stand.

The browser builds the document from the controls' pointers, and the server's faults find their control by the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nat_core.spec import BudgetSpec, ExperimentSpec
from web.controls import Control, Field, Item, draw, item, make_field, text_of
from web.schema import Schema, core, members, named, row

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
CHOSEN = ("/base/data", "/base/reward", "/base/evaluation/sets")
"""What is made of choices and of rows, each in a part of its own."""
LISTS = ("/base/evaluation/sets", "/base/reward/sum/parts")
"""Where lists are; a row of each has a template. Further sets have rewards of their own, with the same parts."""

_NEVER = ("data", "reward", "budget", "seed", "steps")  # drawn apart, or set by the experiment
_BUDGET: TypeAdapter[Any] = TypeAdapter(BudgetSpec)


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

    main: dict[str, Control]
    chosen: dict[str, Control]
    items: list[Item]
    budgets: list[dict[str, Any]]
    selectors: dict[str, str]
    budget_fields: list[BudgetField]
    baseline: int
    seeds: str
    tags: str
    expert: list[tuple[str, str, list[Control]]]


def launch_form(spec: ExperimentSpec) -> LaunchForm:
    """The form filled with a spec: the demo's, or that of the experiment being cloned."""
    document = spec.model_dump(mode="json")
    budgets = [{name: text_of(value) for name, value in budget.items()} for budget in document["budgets"]]
    selectors = members(core(named("/budgets")["items"]))
    return LaunchForm(
        main={pointer: draw(pointer, _at(document, pointer)) for pointer in MAIN},
        chosen={pointer: draw(pointer, _at(document, pointer)) for pointer in CHOSEN},
        items=[item(pointer) for pointer in LISTS],
        budgets=budgets,
        selectors={tag: str(schema.get("description", "")) for tag, schema in selectors.items()},
        budget_fields=_budget_fields(selectors),
        baseline=spec.baseline,
        seeds=", ".join(str(seed) for seed in spec.seeds),
        tags=", ".join(spec.tags),
        expert=_expert_sections(document),
    )


def _at(document: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        document = document[part]
    return document


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
            make_field(f"/{name}", schemas[name], schemas[name].get("default")),
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


def _expert_sections(document: Mapping[str, Any]) -> list[tuple[str, str, list[Control]]]:
    """Every other field of the base run, by section, then those of the experiment itself."""
    found = []
    for name, part in core(named("/base"))["properties"].items():
        if name not in _NEVER:
            found += _section(name.capitalize(), f"/base/{name}", core(part), document)
    return [*found, ("Experiment", "", [draw("/notes", document["notes"])])]


def _section(
    title: str, pointer: str, schema: Schema, document: Mapping[str, Any]
) -> list[tuple[str, str, list[Control]]]:
    """A section's controls, then those of the sections inside it; one without any is left out."""
    inner = {f"{pointer}/{leaf}": part for leaf, part in schema["properties"].items()}
    sections = {leaf: core(part) for leaf, part in inner.items() if "properties" in core(part)}
    controls = [
        draw(leaf, _at(document, leaf))
        for leaf, part in inner.items()
        if leaf not in sections and leaf not in MAIN and "const" not in part and row(core(part)) is None
    ]
    found = [(title, str(schema.get("description", "")), controls)] if controls else []
    for leaf, part in sections.items():
        found += _section(f"{title}: {leaf.rsplit('/', 1)[1]}", leaf, part, document)
    return found
