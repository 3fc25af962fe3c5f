"""What an evaluation reports of a set of questions."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Answers(BaseModel):
    """Answers to a set of questions. `correct[i]` counts right samples of prompt i, of `num_samples`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy: float = Field(ge=0, le=1, description="Share of right answers among all sampled ones.")
    accuracy_low: float | None = Field(
        None, ge=0, le=1, description="95% Wilson interval of the accuracy, for these questions: its lower end."
    )
    accuracy_high: float | None = Field(None, ge=0, le=1, description="Its upper end.")
    accuracy_greedy: float | None = Field(None, ge=0, le=1)
    pass_at_k: float | None = Field(
        None, ge=0, le=1, description="Share of prompts with a right answer among their `num_samples`."
    )
    pass_at: dict[int, float] = Field(
        default={}, description="By k: chance that one of k sampled answers is right, mean over prompts; unbiased."
    )
    majority_at_k: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of prompts whose most frequent answer of `num_samples` is right; a tie counts in part. "
        "Null where the reward reads no answers.",
    )
    num_prompts: int = Field(ge=1)
    num_samples: int = Field(ge=1)
    correct: list[int]
    mean_length: float

    def metrics(self) -> dict[str, float]:
        """Values by the last part of their metric's key (`accuracy` of `eval/accuracy`)."""
        values = {
            "accuracy": self.accuracy,
            "accuracy_low": self.accuracy_low,
            "accuracy_high": self.accuracy_high,
            "accuracy_greedy": self.accuracy_greedy,
            "pass_at_k": self.pass_at_k,
            "majority_at_k": self.majority_at_k,
            "mean_length": self.mean_length,
        }
        return {key: value for key, value in values.items() if value is not None}
