"""Errors that natlab raises on purpose.

NatlabError                code, HTTP-like status
├── SpecError              what was asked for is wrong: field, value, rule, remedy      (bad_spec, 422)
│   ├── DataError          a data file or row is wrong: file and line                   (data, 422)
│   └── ModelError         a model cannot be found or loaded                            (model, 422)
├── StepMemoryError        an update step does not fit into memory                  (oom)
├── RolloutError           the rollout engine failed, or samples from other weights (rollout)
├── RewardError            a reward function raised on a sample                         (reward)
├── NonFiniteLossError     the loss or the gradient norm was NaN or infinite            (nan_loss)
├── CheckpointError        a checkpoint is missing, torn or damaged                     (checkpoint)
└── DiskError              something cannot be written: the disk is full, or broken     (disk)

A message is one sentence that names the field, the value, the rule and the remedy. `code` is what
programs switch on: it is the `reason` of a failed run and the `code` of an API problem document.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong. `pointer` is a JSON pointer into the document (`/budget/fraction`)."""

    pointer: str
    detail: str


class NatlabError(Exception):
    """Base of everything natlab raises on purpose."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SpecError(NatlabError):
    """What was asked for is wrong. `faults` lists every place, each with its own sentence."""

    code = "bad_spec"

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = list(faults)

    @classmethod
    def at(cls, pointer: str, detail: str) -> SpecError:
        """The error for a single field, e.g. `SpecError.at("/model/path", "model.path … is …")`."""
        return cls(detail, [Fault(pointer, detail)])


class DataError(SpecError):
    """A data file or one of its rows is wrong."""

    code = "data"


class ModelError(SpecError):
    """A model cannot be found or loaded."""

    code = "model"


class StepMemoryError(NatlabError):
    """An update step does not fit, and neither does half of one."""

    code = "oom"


class RolloutError(NatlabError):
    """The engine that samples completions failed, or does not sample from the policy that is trained."""

    code = "rollout"


class RewardError(NatlabError):
    """A reward function raised; the run stops and the sample is named."""

    code = "reward"


class NonFiniteLossError(NatlabError):
    """The loss or the gradient norm was NaN or infinite."""

    code = "nan_loss"


class CheckpointError(NatlabError):
    """A checkpoint is missing, torn or damaged."""

    code = "checkpoint"


class DiskError(NatlabError):
    """A file of the run cannot be written."""

    code = "disk"


def pointer_of(path: Iterable[str | int]) -> str:
    """JSON pointer (RFC 6901) of a path of keys and indices."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "".join(f"/{part}" for part in parts)


def spec_error_from_validation(error: ValidationError, what: str) -> SpecError:
    """Turn pydantic's report into one `SpecError` whose faults each read as a sentence.

    Args:
        error: what pydantic raised.
        what: what was being read, as it should stand in the message (`"spec demo.yaml"`).
    """
    return spec_error_from_entries(error.errors(include_url=False), what)


def spec_error_from_entries(entries: Sequence[Any], what: str, skip: int = 0) -> SpecError:
    """The same from pydantic's list of errors, as FastAPI hands it over. Of a great many only the first are named.

    Args:
        skip: parts that each error's place has before those of the document.
    """
    faults = [_fault_of(entry, entry["loc"][skip:]) for entry in entries[:_MOST_FAULTS]]
    first = faults[0]
    more = f" (and {len(entries) - 1} more)" if len(entries) > 1 else ""
    return SpecError(f"{what}: {first.detail}{more}", faults)


_MOST_FAULTS = 200
# pydantic puts the tag of a discriminated union into the path; these are no keys of the document.
_UNION_TAGS: set[str] = set()
_NAMED_BY_PEOPLE = "sets"  # a field whose keys may read like a tag


def register_union_tags(tags: Iterable[str]) -> None:
    """Tell which path parts are discriminator values rather than keys of the document."""
    _UNION_TAGS.update(tags)


def _fault_of(entry: Any, location: Sequence[str | int]) -> Fault:
    path = _document_path(location)
    field = ".".join(str(part) for part in path) or "document"
    kind, value, context = entry["type"], entry.get("input"), entry.get("ctx") or {}
    if kind == "extra_forbidden":
        detail = f"{field} is not a field natlab knows; remove it or correct its spelling"
    elif kind == "missing":
        detail = f"{field} is missing; give it a value"
    elif kind == "value_error":
        detail = str(context.get("error", entry["msg"]))
    else:
        rule = entry["msg"][0].lower() + entry["msg"][1:]
        detail = f"{field} is {_shown(value)}, but {rule}; change it to fit"
    return Fault(pointer_of(path), detail)


def _document_path(location: Sequence[str | int]) -> list[str | int]:
    path: list[str | int] = []
    for index, part in enumerate(location):
        is_tag = isinstance(part, str) and part in _UNION_TAGS and index > 0
        if is_tag and path[-1:] != [_NAMED_BY_PEOPLE]:
            continue
        path.append(part)
    return path


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
