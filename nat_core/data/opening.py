"""From a data spec to a source of prompts: what is read as training rows, and what as questions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nat_core.data.example import Examples, Rules, Skipped, read_examples
from nat_core.data.files import jsonl_rows, read_path, rows_reader
from nat_core.data.gym import EVALUATION_OFFSET, gym_rows
from nat_core.data.hub import HUB_ID, PRESETS, hub_rows
from nat_core.data.library import LibraryMissing
from nat_core.data.source import DemoSource, PromptSource, RowSource
from nat_core.errors import DataError, Fault
from nat_core.spec import DataSpec, DemoArithmetic, FileData, HubData, PresetData, ReasoningGymData

_Read = Callable[[], Examples]


@dataclass(frozen=True)
class _Parts:
    """How training rows and questions are read; without the latter they are held out of the former."""

    training: _Read
    evaluation: _Read | None


def open_source(spec: DataSpec, evaluation_prompts: int, section: str = "data") -> PromptSource:
    """The source a spec asks for, read and checked.

    Args:
        evaluation_prompts: how many rows to hold out where the data bring no evaluation rows.
        section: the dotted path of `spec` in the run's spec, for messages.

    Raises:
        DataError: naming file, line and reason.
    """
    if isinstance(spec, DemoArithmetic):
        return DemoSource(spec)
    parts = _parts(spec, evaluation_prompts, section)
    training = parts.training()
    if parts.evaluation is None:
        return RowSource(*_held_out(training, evaluation_prompts))
    evaluation = parts.evaluation()
    if isinstance(spec, ReasoningGymData):
        _leave_questions_out(training, evaluation)
    return RowSource(training, evaluation)


def open_questions(spec: DataSpec, num_prompts: int, section: str) -> PromptSource:
    """A source to evaluate on only: the rows that the data hold out, or all where they hold out none.

    Raises:
        DataError: naming file, line and reason.
    """
    if isinstance(spec, DemoArithmetic):
        return DemoSource(spec)
    parts = _parts(spec, num_prompts, section)
    return RowSource(None, (parts.evaluation or parts.training)())


def check_data(spec: DataSpec, evaluation_prompts: int, section: str = "data", questions: bool = False) -> None:
    """What can be told without the network and a generator: that files are there and good, that ids are ids.

    Args:
        questions: the data are only evaluated on.

    Raises:
        DataError: naming file, line and reason.
    """
    if isinstance(spec, HubData):
        _check_hub_path(spec, section)
    elif getattr(spec, "path", None) is not None:
        with contextlib.suppress(LibraryMissing):  # here; the machine that trains will tell
            (open_questions if questions else open_source)(spec, evaluation_prompts, section)


def read_file(spec: FileData, path: str, field: str, max_rows: int | None, section: str = "data") -> Examples:
    """Read and check the rows of a file.

    Args:
        field: which field of the section named the file, for messages.

    Raises:
        DataError: the file cannot be read, a row is broken (file and line named) where those fail, or it holds none.
    """
    rules = replace(_rules(spec, section, field, path), max_rows=max_rows)
    return read_path(path, rules, rows_reader(spec))


# --- each kind of data ----------------------------------------------------------------------------


def _parts(spec: DataSpec, num_questions: int, section: str) -> _Parts:
    if isinstance(spec, HubData):
        return _hub_parts(spec, section)
    if isinstance(spec, PresetData):
        return _preset_parts(spec, section)
    if isinstance(spec, ReasoningGymData):
        return _gym_parts(spec, num_questions, section)
    assert not isinstance(spec, DemoArithmetic)
    return _file_parts(spec, section)


def _file_parts(spec: FileData, section: str) -> _Parts:
    questions = spec.evaluation_path
    return _Parts(
        lambda: read_file(spec, spec.path, "path", spec.max_rows, section),
        None if questions is None else lambda: read_file(spec, questions, "evaluation_path", None, section),
    )


def _hub_parts(spec: HubData, section: str) -> _Parts:
    _check_hub_path(spec, section)
    questions = spec.evaluation_split

    def read(split: str, max_rows: int | None) -> Examples:
        rules = replace(_rules(spec, section, "path", spec.path), max_rows=max_rows)
        fields = (spec.prompt_field, spec.answer_field)
        return read_path(spec.path, rules, lambda _: hub_rows(spec.path, spec.subset, spec.revision, split, fields))

    return _Parts(
        lambda: read(spec.split, spec.max_rows),
        None if questions is None else lambda: read(questions, None),
    )


def _preset_parts(spec: PresetData, section: str) -> _Parts:
    preset = PRESETS[spec.type]

    def read(split: str, max_rows: int | None) -> Examples:
        fields = (preset.prompt_field, preset.answer_field)
        if spec.path is not None:
            path = str(Path(spec.path) / preset.file_of(split))
            return read_path(path, replace(_rules(spec, section, "path", path), max_rows=max_rows), jsonl_rows)
        rules = replace(_rules(spec, section, "type", preset.hub_id), max_rows=max_rows)
        revision = spec.revision or preset.revision
        return read_path(
            preset.hub_id, rules, lambda _: hub_rows(preset.hub_id, preset.subset, revision, split, fields)
        )

    if preset.training is None:
        return _Parts(lambda: read(preset.evaluation, spec.max_rows), None)
    training = preset.training
    return _Parts(lambda: read(training, spec.max_rows), lambda: read(preset.evaluation, None))


def _gym_parts(spec: ReasoningGymData, num_questions: int, section: str) -> _Parts:
    def read(count: int, offset: int) -> Examples:
        rules = _rules(spec, section, "task", spec.task)
        try:
            return read_examples(gym_rows(spec, count, offset), rules)
        except ValueError as error:
            reason = " ".join(str(error).split())[:300]
            raise rules.error(
                f"{rules.source} with config {spec.config} cannot be made ({reason}); correct them"
            ) from None

    return _Parts(lambda: read(spec.num_rows, 0), lambda: read(num_questions, EVALUATION_OFFSET))


# --- helpers --------------------------------------------------------------------------------------


def _rules(spec: FileData | HubData | PresetData | ReasoningGymData, section: str, field: str, value: str) -> Rules:
    known = PRESETS[spec.type] if isinstance(spec, PresetData) else spec
    return Rules(
        pointer=f"/{section.replace('.', '/')}/{field}",
        source=f"{section}.{field} {value[:200]}",
        section=section,
        prompt_field=getattr(known, "prompt_field", "question"),
        answer_field=getattr(known, "answer_field", "answer"),
        prompt_template=spec.prompt_template,
        skip=spec.on_bad_row == "skip",
    )


def _held_out(rows: Examples, count: int) -> tuple[Examples, Examples]:
    """Training rows, and the last ones as questions."""
    count = min(count, len(rows.rows) // 2)
    if count < 1:
        raise _too_few(rows)
    return (
        replace(rows, rows=rows.rows[:-count]),
        replace(rows, rows=rows.rows[-count:], skipped=Skipped()),
    )


def _too_few(rows: Examples) -> DataError:
    """One row cannot be both trained on and held out."""
    return rows.rules.error(
        f"{rows.rules.source} holds {len(rows.rows)} row, too few to hold any out for evaluation; add rows or set what "
        "to evaluate on"
    )


def _leave_questions_out(training: Examples, questions: Examples) -> None:
    """Small tasks come up again under another seed; a question that was trained on would measure memory."""
    asked = {example.prompt for example in questions.rows}
    for example in [example for example in training.rows if example.prompt in asked]:
        training.skipped.add(f"{example.place} is a question of the evaluation")
    training.rows = [example for example in training.rows if example.prompt not in asked]
    training.must_hold_any()


def _check_hub_path(spec: HubData, section: str) -> None:
    try:
        is_folder = Path(spec.path).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a home that is nobody's
        is_folder = False
    if not is_folder and not HUB_ID.fullmatch(spec.path):
        detail = (
            f"{section}.path is {spec.path[:100]!r}, but that is neither a folder nor a hub id owner/name; correct it"
        )
        raise DataError(detail, [Fault(f"/{section.replace('.', '/')}/path", detail)])
