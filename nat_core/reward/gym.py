"""reasoning-gym's own verifiers, for tasks with more than one right answer."""

from __future__ import annotations

import re

from nat_core.data.gym import score_answer
from nat_core.reward.plain import last_match
from nat_core.reward.sample import Sample, Verdict, Verifier
from nat_core.spec import ReasoningGymReward


def reasoning_gym(spec: ReasoningGymReward) -> Verifier:
    """What the task's generator says of the answer."""
    pattern = re.compile(spec.answer_pattern)

    def verify(sample: Sample) -> Verdict:
        if sample.entry is None:
            raise ValueError("reward.type is reasoning_gym, but this prompt is not from data.type reasoning_gym")
        given = last_match(pattern, sample.completion)
        if given is None:
            return Verdict(0.0)
        answer = given.strip()
        return Verdict(score_answer(sample.entry, answer), answer)

    return verify
