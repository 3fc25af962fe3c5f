"""Prompts and answers: JSON-lines files and the built-in demo task. No torch here.

Order is a pure function of the seed and the step, so that every budget of an experiment sees the
same prompts and a resumed run goes on where it was.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nat_core.demo.task import random_chain
from nat_core.errors import DataError, Fault
from nat_core.spec import DataSpec, DemoArithmetic, JsonlData

_DEMO_EVALUATION_SEED = 20_260_306  # the demo's question set is the same for every run


@dataclass(frozen=True)
class Example:
    """One prompt with its reference answer."""

    prompt: str
    answer: str


class PromptSource(Protocol):
    """Where a run's prompts come from."""

    def training_batch(self, seed: int, step: int, num_prompts: int) -> list[Example]:
        """Prompts of a step (0-based); the same for the same arguments."""

    def evaluation_set(self, num_prompts: int) -> list[Example]:
        """Held-out prompts, at most `num_prompts`; the same in every run."""


def open_source(spec: DataSpec, evaluation_prompts: int) -> PromptSource:
    """The source a spec asks for, read and checked.

    Args:
        evaluation_prompts: how many rows to hold out where the data bring no evaluation file.

    Raises:
        DataError: naming file, line and reason.
    """
    if isinstance(spec, DemoArithmetic):
        return DemoSource(spec)
    return JsonlSource(spec, evaluation_prompts)


class DemoSource:
    """Chained arithmetic, made on the fly."""

    def __init__(self, spec: DemoArithmetic) -> None:
        self.spec = spec

    def training_batch(self, seed: int, step: int, num_prompts: int) -> list[Example]:
        return self._draw(random.Random(f"demo-train-{seed}-{step}"), num_prompts)

    def evaluation_set(self, num_prompts: int) -> list[Example]:
        return self._draw(random.Random(_DEMO_EVALUATION_SEED), num_prompts)

    def _draw(self, rng: random.Random, count: int) -> list[Example]:
        chains = (random_chain(rng, self.spec.min_operations, self.spec.max_operations) for _ in range(count))
        return [Example(chain.prompt, chain.answer) for chain in chains]


class JsonlSource:
    """Rows of JSON-lines files, in a fresh seeded order each epoch."""

    def __init__(self, spec: JsonlData, evaluation_prompts: int) -> None:
        rows = read_jsonl(spec, spec.path, "path", spec.max_rows)
        if spec.evaluation_path is not None:
            self.evaluation = read_jsonl(spec, spec.evaluation_path, "evaluation_path", None)
            self.training = rows
        else:
            held_out = min(evaluation_prompts, len(rows) // 2)
            if held_out < 1:
                raise _data_error(
                    "path",
                    f"data.path {spec.path} holds {len(rows)} row, too few to hold any out for evaluation; "
                    "add rows or set data.evaluation_path",
                )
            self.training, self.evaluation = rows[:-held_out], rows[-held_out:]

    def training_batch(self, seed: int, step: int, num_prompts: int) -> list[Example]:
        start = step * num_prompts
        return [self._at(seed, start + offset) for offset in range(num_prompts)]

    def evaluation_set(self, num_prompts: int) -> list[Example]:
        return self.evaluation[:num_prompts]

    def _at(self, seed: int, position: int) -> Example:
        epoch, index = divmod(position, len(self.training))
        return self.training[self._order(seed, epoch)[index]]

    def _order(self, seed: int, epoch: int) -> list[int]:
        key = (seed, epoch)
        if getattr(self, "_cached_key", None) != key:
            order = list(range(len(self.training)))
            random.Random(f"order-{seed}-{epoch}").shuffle(order)
            self._cached_key, self._cached_order = key, order
        return self._cached_order


def read_jsonl(spec: JsonlData, path: str, field: str, max_rows: int | None) -> list[Example]:
    """Read and check rows of a JSON-lines file; blank lines are passed over.

    Args:
        field: which field of `data` named the file, for messages.

    Raises:
        DataError: the file cannot be read, a line is broken (file and line number named), or it holds no rows.
    """
    examples: list[Example] = []
    try:
        with Path(path).expanduser().open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if max_rows is not None and len(examples) >= max_rows:
                    break
                if line.strip():
                    examples.append(_example(spec, field, path, number, line))
    except UnicodeDecodeError:
        raise _data_error(field, f"data.{field} {path} is not UTF-8 text; convert it to JSON lines in UTF-8") from None
    except (OSError, ValueError, RuntimeError) as error:  # the last two: a NUL, a home that is nobody's
        reason = getattr(error, "strerror", None) or error
        raise _data_error(field, f"data.{field} {path[:200]!r} cannot be read ({reason}); check the path") from None
    if not examples:
        raise _data_error(field, f"data.{field} {path} holds no rows, but a run needs prompts; add rows")
    return examples


def _example(spec: JsonlData, field: str, path: str, number: int, line: str) -> Example:
    place = f"data.{field} {path}, line {number}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # besides broken JSON: a number of thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", error)
        raise _data_error(field, f"{place} is not valid JSON ({reason}); correct or remove it") from None
    if not isinstance(row, dict):
        raise _data_error(field, f"{place} holds {type(row).__name__}, not an object; correct or remove it")
    values = []
    for name, key in (("prompt_field", spec.prompt_field), ("answer_field", spec.answer_field)):
        value = row.get(key)
        if not isinstance(value, str | int | float) or isinstance(value, bool) or not str(value).strip():
            raise _data_error(
                field, f"{place} has no text under {key!r}; correct the row, or set data.{name} to one of {_keys(row)}"
            )
        values.append(str(value))
    return Example(spec.prompt_template.replace("{prompt}", values[0]), values[1])


def _keys(row: dict[str, object]) -> str:
    shown = ", ".join(repr(key) for key in list(row)[:8])
    return shown or "its keys (it has none)"


def _data_error(field: str, detail: str) -> DataError:
    return DataError(detail, [Fault(f"/data/{field}", detail)])
