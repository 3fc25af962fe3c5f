"""An experiment being written, as a form and as a YAML file at once: each from the other, with what is wrong where.

The text comes from whoever writes it, so it is read with bounds: on its length, its depth, and without
aliases, which can make a short file mean a huge document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from nat_core.errors import Fault, SpecError
from nat_core.spec import ExperimentSpec, first_repeated, parse_experiment_spec

MAX_YAML = 64_000
_MAX_DEPTH = 20
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class DraftFault:
    """What is wrong; `line` counts from 1 and is 0 where no line is to blame."""

    pointer: str
    detail: str
    line: int = 0


@dataclass(frozen=True)
class Plan:
    """The runs that an experiment makes: every budget with every seed."""

    budgets: list[str]
    biased: list[bool]
    baseline: int
    seeds: list[int]
    steps: int


@dataclass(frozen=True)
class Draft:
    """`document` and `plan` are there when nothing is wrong; the document has every field."""

    yaml: str
    faults: list[DraftFault] = field(default_factory=list)
    document: dict[str, Any] | None = None
    plan: Plan | None = None


def draft_of_document(document: Mapping[str, Any]) -> Draft:
    """The file of what stands in the form, right or wrong."""
    text = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return _judged(text, dict(document), None)


def draft_of_yaml(text: str) -> Draft:
    """What a file says, and at which lines it says something wrong."""
    if len(text) > MAX_YAML:
        return _refused(text, f"the file has {len(text):,} characters, above {MAX_YAML:,}; shorten it")
    try:
        unfit = _unfit(text)
        if unfit is not None:
            return _refused(text, *unfit)
        root = yaml.compose(text, Loader=_Loader)
        repeated = first_repeated(root)
        if repeated is not None:
            return _refused(text, *repeated)
        document = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "it cannot be read"
        return _refused(text, f"this is not valid YAML: {problem}; correct it", mark.line + 1 if mark else 0)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())[:200]
        return _refused(text, f"this is not valid YAML: {problem}; correct it")
    if not isinstance(document, dict):
        return _refused(text, "the file holds no fields; write them as `name: value`")
    return _judged(text, document, root)


def _unfit(text: str) -> tuple[str, int] | None:
    """What keeps a text from being built, and its line. Only events are read: they nest without recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            return f"*{event.anchor} is an alias, but aliases are not read here; write it out", line
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            return f"the file is nested more than {_MAX_DEPTH} deep; no field lies so deep", line
    return None


def _refused(text: str, detail: str, line: int = 0) -> Draft:
    return Draft(text, [DraftFault("", detail, line)])


def _judged(text: str, document: dict[str, Any], root: Node | None) -> Draft:
    try:
        spec = parse_experiment_spec(document)
    except SpecError as error:
        return Draft(text, [_placed(fault, root) for fault in error.faults])
    return Draft(text, [], spec.model_dump(mode="json"), plan_of(spec))


def plan_of(spec: ExperimentSpec) -> Plan:
    return Plan(
        budgets=[budget.label for budget in spec.budgets],
        biased=[budget.biased for budget in spec.budgets],
        baseline=spec.baseline,
        seeds=list(spec.seeds),
        steps=spec.base.steps,
    )


def _placed(fault: Fault, root: Node | None) -> DraftFault:
    return DraftFault(fault.pointer, fault.detail, line_of(root, fault.pointer) if root is not None else 0)


def line_of(root: Node, pointer: str) -> int:
    """The line, from 1, of the value that a JSON pointer names, or of the nearest one around it that is there."""
    node, line = root, root.start_mark.line + 1
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = _inside(node, name)
        if found is None:
            break
        line, node = found
    return line


def _inside(node: Node, name: str) -> tuple[int, Node] | None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value == name:
                return key.start_mark.line + 1, value
    elif isinstance(node, SequenceNode) and name.isdigit() and int(name) < len(node.value):
        item = node.value[int(name)]
        return item.start_mark.line + 1, item
    return None
