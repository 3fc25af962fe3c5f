"""The events: one class a kind; `AnyEvent` is their union, and one of them a line of `events.jsonl`."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from nat_core.answers import Answers
from nat_core.events.metrics import METRICS


class Event(BaseModel):
    """What every event carries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seq: int = Field(ge=1, le=2**53, description="Counts up by one from 1 within the attempt.")
    time: float = Field(
        ge=0, lt=253_402_300_800, allow_inf_nan=False, description="Unix time in seconds, by the trainer's clock."
    )
    step: int = Field(ge=0, le=2**53, description="Steps finished when this was reported; 0 is before training.")


class MetricsEvent(Event):
    """Values of one step. A value that is not finite is stored as null."""

    type: Literal["metrics"] = "metrics"
    values: dict[str, float | None]

    @field_validator("values")
    @classmethod
    def _known_and_finite(cls, values: dict[str, float | None]) -> dict[str, float | None]:
        unknown = sorted(values.keys() - METRICS.keys())
        if unknown:
            raise ValueError(f"metric {unknown[0]!r} is not in nat_core.events.METRICS; declare it there")
        return {key: None if value is None or not math.isfinite(value) else value for key, value in values.items()}


class SampleEvent(Event):
    """One completion with what the budget did to it. Lists have one entry per completion token."""

    type: Literal["sample"] = "sample"
    prompt: str
    tokens: list[str]
    keep: list[bool]
    inclusion_prob: list[float]
    logprobs: list[float] | None = Field(None, description="Sampling log-probabilities where known.")
    reward: float
    advantage: float
    answer: str = Field(description="The reference answer.")


class EvaluationEvent(Answers, Event):
    """Answers to the held-out prompts. `correct[i]` counts right samples of prompt i, of `num_samples`."""

    type: Literal["evaluation"] = "evaluation"
    sets: dict[str, Answers] = Field(default={}, description="Answers to the further sets of questions, by name.")
    seconds: float

    def metric_values(self) -> dict[str, float]:
        """The metrics that it carries: `eval/accuracy`, and of a named set `eval/<set>/accuracy`."""
        own = {f"eval/{part}": value for part, value in self.metrics().items()}
        return own | {
            f"eval/{name}/{part}": value for name, found in self.sets.items() for part, value in found.metrics().items()
        }


class CheckpointEvent(Event):
    """A checkpoint is complete on disk. `path` is relative to the run's folder."""

    type: Literal["checkpoint"] = "checkpoint"
    path: str
    size_bytes: int


class LogEvent(Event):
    """A line for people."""

    type: Literal["log"] = "log"
    level: Literal["info", "warning", "error"] = "info"
    message: str


class StateEvent(Event):
    """The trainer started or ended. The last event of an attempt is a state event with `phase="ended"`."""

    type: Literal["state"] = "state"
    phase: Literal["started", "ended"]
    outcome: Literal["succeeded", "stopped", "failed"] | None = None
    reason: str | None = Field(None, description="Why it failed: an error code such as `nan_loss` or `data`.")
    message: str | None = None
    hardware: dict[str, Any] | None = Field(None, description="On start: device, cores, versions, neighbours.")


AnyEvent = Annotated[
    MetricsEvent | SampleEvent | EvaluationEvent | CheckpointEvent | LogEvent | StateEvent,
    Field(discriminator="type"),
]

_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


def parse_event(line: str | bytes) -> AnyEvent:
    """Decode one line of `events.jsonl`. Raises pydantic's `ValidationError` when it is no event."""
    return _ADAPTER.validate_json(line)
