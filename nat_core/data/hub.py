"""Rows of Hugging Face data sets, and the presets: known sets with their columns, splits and revisions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nat_core.data.example import Row
from nat_core.data.library import library

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Preset:
    """A known data set. `files` are its splits' names as JSON lines in a folder; without `training` there is one."""

    hub_id: str
    subset: str | None
    revision: str
    training: str | None
    evaluation: str
    prompt_field: str
    answer_field: str

    @staticmethod
    def file_of(split: str) -> str:
        return f"{split}.jsonl"


PRESETS = {
    "gsm8k": Preset(
        hub_id="openai/gsm8k",
        subset="main",
        revision="740312add88f781978c0658806c59bc2815b9866",
        training="train",
        evaluation="test",
        prompt_field="question",
        answer_field="answer",
    ),
    "math500": Preset(
        hub_id="HuggingFaceH4/MATH-500",
        subset=None,
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        training=None,
        evaluation="test",
        prompt_field="problem",
        answer_field="answer",
    ),
}


def hub_rows(path: str, subset: str | None, revision: str | None, split: str, fields: Sequence[str]) -> Iterator[Row]:
    """Rows of a split; other columns than those that `fields` begin with are not even read.

    Raises:
        ValueError: it cannot be loaded, whatever the library raised.
    """
    datasets: Any = library("datasets", "data.type huggingface")
    datasets.disable_progress_bars()
    try:
        data = _load(datasets, path, subset, revision, split)
    except Exception as error:  # foreign code and files: a missing set, a broken one and no network all differ
        raise ValueError(f"{type(error).__name__}: {error}") from error
    wanted = [
        name for name in data.column_names if any(field == name or field.startswith(f"{name}.") for field in fields)
    ]
    if len({field.split(".")[0] for field in fields}) == len(wanted):
        data = data.select_columns(wanted)
    for number, values in enumerate(data, start=1):
        yield Row(f"row {number} of {split}", values)


def _load(datasets: Any, path: str, subset: str | None, revision: str | None, split: str) -> Any:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return datasets.load_dataset(path, subset, split=split, revision=revision)
    if (folder / "state.json").is_file():
        return datasets.load_from_disk(str(folder))
    if (folder / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(folder))[split]
    return datasets.load_dataset(str(folder), subset, split=split)
