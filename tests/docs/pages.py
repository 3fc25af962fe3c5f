"""Reads README, CONTRIBUTING and docs/: their code blocks, and the comment before each that tells what is done."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.e2e.support import REPOSITORY

_MARK = re.compile(r"<!-- (runnable|not run|new|append|change)(?:: (.+))? -->")
_FENCE = re.compile(r"```(\w*)")


@dataclass(frozen=True)
class Block:
    """A code block: `mark` is the word of the comment before it, `about` what the comment says besides."""

    page: str
    line: int
    language: str
    text: str
    mark: str | None
    about: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page, by its path in the repository."""
    docs = sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").glob("*.md"))
    return ["README.md", "CONTRIBUTING.md", *docs]


def read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The page's code blocks in order; `line` is that of the first line of code."""
    found, lines, at = [], read(page).splitlines(), 0
    while at < len(lines):
        if fence := _FENCE.fullmatch(lines[at]):
            end = lines.index("```", at + 1)
            mark = _MARK.fullmatch(lines[at - 1]) if at else None
            text = "".join(f"{line}\n" for line in lines[at + 1 : end])
            found.append(Block(page, at + 2, fence[1], text, mark and mark[1], (mark and mark[2]) or ""))
            at = end
        at += 1
    return found


def worked_examples() -> list[str]:
    """Pages that tell how to change natlab itself."""
    return [page for page in pages() if any(block.mark in ("new", "append", "change") for block in blocks(page))]


def without_code(page: str) -> str:
    """The page's words: no code blocks, no code spans, no comments."""
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"<!--.*?-->", "", re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text, flags=re.DOTALL), flags=re.DOTALL)
