"""A prompt with its answer, and how rows become examples: columns picked, broken ones failed or counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from nat_core.errors import DataError, Fault

MAX_TOLD = 3  # broken rows whose reason is kept; the others are only counted


@dataclass(frozen=True)
class Example:
    """One prompt with its reference answer.

    `place` says where it stands, for messages; `entry` is what a generator tells its own verifier.
    """

    prompt: str
    answer: str
    place: str = field(default="", compare=False)
    entry: Mapping[str, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Row:
    """A row as its file holds it: values by column, or else what is wrong with it."""

    place: str
    values: Mapping[str, Any] | None
    fault: str = ""
    entry: Mapping[str, Any] | None = None


@dataclass
class Skipped:
    """Rows left out: how many, and of the first few why."""

    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        self.count += 1
        if len(self.reasons) < MAX_TOLD:
            self.reasons.append(reason)

    def __str__(self) -> str:
        more = f"; and {self.count - len(self.reasons)} more" if self.count > len(self.reasons) else ""
        return f"{self.count} rows were skipped: {'; '.join(self.reasons)}{more}"


@dataclass(frozen=True)
class Rules:
    """How one source's rows are read.

    Attributes:
        pointer: JSON pointer of the field that names the source, for the fault.
        source: the same in words, with its value: `data.path rows.jsonl`.
        section: the data section's dotted path (`data`), for remedies.
    """

    pointer: str
    source: str
    section: str
    prompt_field: str
    answer_field: str
    prompt_template: str
    skip: bool
    max_rows: int | None = None

    def error(self, detail: str) -> DataError:
        return DataError(detail, [Fault(self.pointer, detail)])


@dataclass
class Examples:
    """Examples of one source, and what became of its broken rows."""

    rows: list[Example]
    rules: Rules
    skipped: Skipped = field(default_factory=Skipped)

    def limit_prompts(self, num_tokens: Callable[[Example], int], limit: int) -> None:
        """Hold every prompt to 1 to `limit` tokens; what does not fit is a broken row like any other.

        Raises:
            DataError: naming the row, where broken rows fail, or when none is left.
        """
        kept = []
        for example in self.rows:
            count = num_tokens(example)
            if 0 < count <= limit:
                kept.append(example)
            else:
                self.refuse(
                    f"{example.place} has a prompt of {count} tokens, but rollout.max_prompt_length is {limit}",
                    f"; raise it, shorten the prompt, or set {self.rules.section}.on_bad_row to skip",
                )
        self.rows = kept
        self.must_hold_any()

    def refuse(self, reason: str, remedy: str = "") -> None:
        """Fail on a broken row, or leave it out and count it."""
        if not self.rules.skip:
            raise self.rules.error(reason + remedy)
        self.skipped.add(reason)

    def must_hold_any(self) -> None:
        """Raise unless a row is left."""
        if not self.rows:
            left = f" ({self.skipped})" if self.skipped.count else ""
            raise self.rules.error(f"{self.rules.source} holds no rows{left}, but a run needs prompts; add rows")


def read_examples(rows: Iterable[Row], rules: Rules) -> Examples:
    """Read rows into examples.

    Raises:
        DataError: a row is broken (source and place named) and broken rows fail, or there is none.
    """
    found = Examples([], rules)

    def good() -> Iterable[Example]:
        for row in rows:
            example = _example(row, rules)
            if isinstance(example, Example):
                yield example
            else:
                found.refuse(f"{rules.source}, {row.place} {example}")

    found.rows = list(islice(good(), rules.max_rows))
    found.must_hold_any()
    return found


def _example(row: Row, rules: Rules) -> Example | str:
    """The example that a row makes, or what is wrong with it."""
    if row.values is None:
        return row.fault
    texts = []
    for name, key in (("prompt_field", rules.prompt_field), ("answer_field", rules.answer_field)):
        value = look_up(row.values, key)
        if not _is_text_or_number(value):
            return (
                f"has no text under {key!r}; correct the row, or set {rules.section}.{name} to one of "
                f"{_keys(row.values)}"
            )
        texts.append(str(value))
        if not _is_unicode(texts[-1]):
            return f"holds characters under {key!r} that are not Unicode text; correct or remove it"
    prompt, answer = texts
    return Example(rules.prompt_template.replace("{prompt}", prompt), answer, f"{rules.source}, {row.place}", row.entry)


def _is_text_or_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)  # tables write NaN where there is nothing
    return isinstance(value, str | int) and not isinstance(value, bool) and bool(str(value).strip())


def look_up(values: Mapping[str, Any], key: str) -> Any:
    """The value of a column; `a.b.0` goes into what `a` holds where there is no column of that very name."""
    if key in values:
        return values[key]
    place: Any = values
    for part in key.split("."):
        if isinstance(place, Mapping):
            place = place.get(part)
        elif isinstance(place, list) and part.isdecimal() and int(part) < len(place):
            place = place[int(part)]
        else:
            return None
    return place


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: from bytes that are no UTF-8, or escaped in JSON
        return False
    return True


def _keys(row: Mapping[str, Any]) -> str:
    shown = ", ".join(repr(key) for key in list(row)[:8])
    return shown or "its keys (it has none)"
