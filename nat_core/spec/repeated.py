"""Fields that a file sets twice: YAML and JSON take the last one, and drop the other without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yaml.nodes import Node


def first_repeated(root: Node | None) -> tuple[str, int] | None:
    """Of a composed document the first field that is set twice, in a sentence, and its line, from 1."""
    from yaml.nodes import MappingNode, SequenceNode  # specs made in code need no YAML

    found: list[tuple[int, str]] = []
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # an alias; it may even stand inside of what it names
            continue
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            nodes += node.value
        if not isinstance(node, MappingNode):
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines and key.tag != "tag:yaml.org,2002:merge":
                found.append((line, f"{name} is set here again, after line {lines[name]}; keep one of the two"))
            lines.setdefault(name, line)
            nodes.append(value)
    line, detail = min(found, default=(0, ""))
    return (detail, line) if found else None
