"""Where a run's prompts and answers come from: files, hub data sets, presets and generators."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from nat_core.errors import register_union_tags
from nat_core.spec.section import Section


class DemoArithmetic(Section):
    """Chained one-digit arithmetic mod 10, written out step by step; made on the fly from the seed."""

    type: Literal["demo_arithmetic"] = "demo_arithmetic"
    min_operations: int = Field(9, ge=1, le=32, description="Fewest operations in a chain.")
    max_operations: int = Field(12, ge=1, le=32, description="Most operations in a chain.")

    @model_validator(mode="after")
    def _ordered(self) -> DemoArithmetic:
        if self.min_operations > self.max_operations:
            raise ValueError(
                f"data.min_operations is {self.min_operations}, above data.max_operations "
                f"{self.max_operations}; lower it or raise the other"
            )
        return self


# --- what rows have in common ---------------------------------------------------------------------


class _Rows(Section):
    """How a row becomes a prompt, and what happens to one that cannot."""

    prompt_template: str = Field(
        "{prompt}", max_length=20_000, description="Text sent to the model; `{prompt}` stands for the row's prompt."
    )
    on_bad_row: Literal["fail", "skip"] = Field(
        "fail",
        description="What a broken row, or one whose prompt is longer than `rollout.max_prompt_length`, does before "
        "training: `fail` ends the run and names it, `skip` leaves it out; the run's log says how many.",
    )

    @field_validator("prompt_template")
    @classmethod
    def _template_has_prompt(cls, template: str) -> str:
        if "{prompt}" not in template:
            raise ValueError(
                f"data.prompt_template is {template[:80]!r}, which lacks {{prompt}}; put it where the prompt belongs"
            )
        return template


class _Mapped(_Rows):
    """Which columns hold prompt and answer."""

    prompt_field: str = Field(
        "question",
        min_length=1,
        max_length=100,
        description="Key of the prompt in a row; with dots for one inside another (`prompt.0.content`).",
    )
    answer_field: str = Field(
        "answer", min_length=1, max_length=100, description="Key of the answer in a row; with dots as well."
    )
    max_rows: int | None = Field(None, ge=1, description="Use only the first so many rows of `path`.")


class _Files(Section):
    """Where the rows lie."""

    path: str = Field(
        min_length=1, max_length=1000, description="Training rows, one JSON object a line; `~` is the home folder."
    )
    evaluation_path: str | None = Field(
        None, max_length=1000, description="Rows to evaluate on; without it the last rows of `path` are held out."
    )


# --- files ----------------------------------------------------------------------------------------


class JsonlData(_Mapped, _Files):
    """Prompts and answers from JSON-lines files."""

    type: Literal["jsonl"] = "jsonl"


class CsvData(_Mapped, _Files):
    """Prompts and answers from CSV files whose first line names the columns."""

    type: Literal["csv"] = "csv"
    path: str = Field(min_length=1, max_length=1000, description="Training rows, UTF-8; `~` is the home folder.")
    delimiter: str = Field(",", min_length=1, max_length=1, description="Character between columns.")

    @field_validator("delimiter")
    @classmethod
    def _can_delimit(cls, delimiter: str) -> str:
        if delimiter in '\r\n"\0 ':
            raise ValueError(f"data.delimiter is {delimiter!r}, which cannot part columns; use , ; | or a tab")
        return delimiter


class ParquetData(_Mapped, _Files):
    """Prompts and answers from Parquet files."""

    type: Literal["parquet"] = "parquet"
    path: str = Field(min_length=1, max_length=1000, description="Training rows; `~` is the home folder.")


# --- data sets ------------------------------------------------------------------------------------


class HubData(_Mapped):
    """A Hugging Face data set, from the hub or from a folder; code of its own is never run."""

    type: Literal["huggingface"] = "huggingface"
    path: str = Field(
        min_length=1,
        max_length=1000,
        description="Hub id `owner/name`, a folder of data files, or one that `save_to_disk` wrote.",
    )
    subset: str | None = Field(
        None, min_length=1, max_length=200, description="Configuration, where the set has several."
    )
    revision: str | None = Field(
        None, min_length=1, max_length=100, description="Hub revision (commit, tag or branch) to pin."
    )
    split: str = Field("train", min_length=1, max_length=200, description="Split with the training rows.")
    evaluation_split: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Split to evaluate on; without it the last rows of `split` are held out.",
    )


class _Preset(_Rows):
    """A known data set: columns and splits need no telling."""

    path: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Folder with the set's rows as JSON lines (`train.jsonl`, `test.jsonl`); not set: from the hub.",
    )
    revision: str | None = Field(
        None, min_length=1, max_length=100, description="Hub revision; not set: the one natlab was tested with."
    )
    max_rows: int | None = Field(None, ge=1, description="Use only the first so many training rows.")


class Gsm8kData(_Preset):
    """GSM8K: 7,473 grade-school word problems to train on, 1,319 to evaluate on; answers end with `#### N`."""

    type: Literal["gsm8k"] = "gsm8k"


class Math500Data(_Preset):
    """MATH-500: 500 competition problems with LaTeX answers. To train on, too, the last rows are held out."""

    type: Literal["math500"] = "math500"


class ReasoningGymData(_Rows):
    """Tasks made by reasoning-gym, the same ones for the same seed."""

    type: Literal["reasoning_gym"] = "reasoning_gym"
    task: str = Field(
        min_length=1, max_length=100, pattern=r"^\w+$", description="Name of the generator, e.g. `chain_sum`."
    )
    config: dict[str, JsonValue] = Field(
        default={}, description="The generator's own settings, e.g. `{max_terms: 3}`; `seed` and `size` are natlab's."
    )
    num_rows: int = Field(2000, ge=1, le=1_000_000, description="Training prompts made; then they come again.")
    seed: int = Field(0, ge=0, lt=2**30, description="Seed of the prompts; a run's own seed only orders them.")

    @field_validator("config")
    @classmethod
    def _leaves_ours_alone(cls, config: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name, field in (("seed", "data.seed"), ("size", "data.num_rows")):
            if name in config:
                raise ValueError(f"data.config holds {name!r}, which natlab sets itself; use {field} instead")
        return config


DataSpec = Annotated[
    DemoArithmetic | JsonlData | CsvData | ParquetData | HubData | Gsm8kData | Math500Data | ReasoningGymData,
    Field(discriminator="type"),
]

FileData = JsonlData | CsvData | ParquetData
PresetData = Gsm8kData | Math500Data

register_union_tags(("demo_arithmetic", "jsonl", "csv", "parquet", "huggingface", "gsm8k", "math500", "reasoning_gym"))
