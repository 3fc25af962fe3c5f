"""What a completion is worth."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nat_core.errors import register_union_tags
from nat_core.spec.section import Section

_ANSWER_PATTERN = Field(
    r"####\s*([^#\n]+)",
    min_length=1,
    max_length=500,
    description="Regular expression whose first group is the answer; the last match in the text counts. "
    "Applied to the completion, and to the reference where it matches there.",
)
_TIMEOUT = Field(
    10.0, gt=0, le=600, description="Seconds for one completion; one that takes longer is worth 0, and the log says so."
)


def _checked(field: str, pattern: str, groups: int) -> str:
    """A pattern that compiles and has enough groups; ValueError with the field's name where it does not."""
    try:
        found = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{field} is {pattern!r}, which is no regular expression ({error}); correct it") from None
    if found < groups:
        raise ValueError(f"{field} is {pattern!r}, which has no group; put the answer's part in parentheses")
    return pattern


class ExactMatch(Section):
    """1 if the completion's final answer equals the reference's, else 0."""

    type: Literal["exact_match"] = "exact_match"
    answer_pattern: str = _ANSWER_PATTERN
    timeout_s: float = _TIMEOUT

    @field_validator("answer_pattern")
    @classmethod
    def _compiles_with_a_group(cls, pattern: str) -> str:
        return _checked("reward.answer_pattern", pattern, groups=1)


class MathVerify(Section):
    """1 if the completion's final answer is mathematically the reference's, else 0.

    Numbers, fractions, LaTeX, sets, intervals and matrices, compared by math-verify.
    """

    type: Literal["math_verify"] = "math_verify"
    anchored: bool = Field(
        True,
        description="Only an answer in `\\boxed{}` or after `####` counts, the last one; false also takes the last "
        "expression of a text without either.",
    )
    timeout_s: float = _TIMEOUT


class FormatReward(Section):
    """1 if the pattern is found in the completion, else 0."""

    type: Literal["format"] = "format"
    pattern: str = Field(
        min_length=1, max_length=500, description="Regular expression; `.` matches line ends, `\\Z` is the text's end."
    )
    timeout_s: float = _TIMEOUT

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        return _checked("reward.pattern", pattern, groups=0)


class LengthReward(Section):
    """1 for a completion of up to `free` tokens, falling in a straight line to 0 at `limit`."""

    type: Literal["length"] = "length"
    free: int = Field(ge=0, le=131_072, description="Tokens that cost nothing.")
    limit: int = Field(ge=1, le=131_072, description="Tokens at which nothing is left.")

    @model_validator(mode="after")
    def _ordered(self) -> LengthReward:
        if self.free >= self.limit:
            raise ValueError(f"reward.free is {self.free}, but reward.limit is {self.limit}; lower free or raise limit")
        return self


class ReasoningGymReward(Section):
    """What reasoning-gym's own verifier gives the completion's answer, 0 to 1; needs `reasoning_gym` data."""

    type: Literal["reasoning_gym"] = "reasoning_gym"
    answer_pattern: str = _ANSWER_PATTERN
    timeout_s: float = _TIMEOUT

    @field_validator("answer_pattern")
    @classmethod
    def _compiles_with_a_group(cls, pattern: str) -> str:
        return _checked("reward.answer_pattern", pattern, groups=1)


class CustomReward(Section):
    """A Python function, called as `function(prompt=…, completion=…, answer=…)`; it returns a number.

    Taken only where the operator names it in the worker's `NATLAB_ALLOWED_REWARDS`.
    """

    type: Literal["custom"] = "custom"
    function: str = Field(
        max_length=300,
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="Import path `package.module:function`.",
    )
    timeout_s: float = _TIMEOUT


SingleReward = Annotated[
    ExactMatch | MathVerify | FormatReward | LengthReward | ReasoningGymReward | CustomReward,
    Field(discriminator="type"),
]


class RewardPart(Section):
    """One term of a sum."""

    weight: float = Field(1.0, ge=-1000, le=1000, description="What the part's reward is multiplied by.")
    reward: SingleReward


class WeightedSum(Section):
    """A weighted sum; whether an answer is right, for the accuracy, is the first part's to say."""

    type: Literal["sum"] = "sum"
    parts: list[RewardPart] = Field(min_length=1, max_length=16, description="The terms, the verifier first.")


RewardSpec = Annotated[
    ExactMatch | MathVerify | FormatReward | LengthReward | ReasoningGymReward | CustomReward | WeightedSum,
    Field(discriminator="type"),
]


def with_type(reward: Any) -> Any:
    """A reward without `type` is an exact match: so it was before there were others."""
    return {"type": "exact_match", **reward} if isinstance(reward, dict) and "type" not in reward else reward


def check_knows_data(reward: RewardSpec, data_type: str, section: str = "reward") -> None:
    """Raise a ValueError where the reward asks a generator that the data have not."""
    rewards = [part.reward for part in reward.parts] if isinstance(reward, WeightedSum) else [reward]
    if data_type != "reasoning_gym" and any(isinstance(part, ReasoningGymReward) for part in rewards):
        raise ValueError(
            f"{section}.type is reasoning_gym, but data.type is {data_type}, which has no generator to ask; choose "
            "another reward"
        )


register_union_tags(("exact_match", "math_verify", "format", "length", "custom", "sum"))
