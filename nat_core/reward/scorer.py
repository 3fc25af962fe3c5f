"""From completions to scores: a reward alone, or several in a weighted sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nat_core.errors import RewardError
from nat_core.reward.custom import check_allowed
from nat_core.reward.pool import Pool
from nat_core.reward.sample import Sample, Score, Verdict
from nat_core.reward.table import VERIFIERS
from nat_core.spec import CustomReward, RewardPart, RewardSpec, SingleReward, WeightedSum

_Many = Callable[[Sequence[Sample]], list[Verdict]]


class Scorer:
    """Scores completions with the reward that a spec asks for."""

    def __init__(
        self,
        spec: RewardSpec,
        warn: Callable[[str], None] = lambda _: None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Args:
            warn: told of completions that took longer than their time limit.
            between: called every now and then while other processes score; may raise.

        Raises:
            SpecError: a custom function that the operator does not allow.
        """
        parts = spec.parts if isinstance(spec, WeightedSum) else [RewardPart(reward=spec)]
        for part in parts:
            if isinstance(part.reward, CustomReward):
                check_allowed(part.reward)
        self.reads_answers = VERIFIERS[parts[0].reward.type].reads_answers  # the first part says what is right
        self._warn, self._between = warn, between
        self._pools: list[Pool] = []
        self._parts = [(part.weight, self._verifier(part.reward)) for part in parts]

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Scores in the samples' order. An answer is right where the first part gives it 1.

        Raises:
            RewardError: a verifier raised, or returned what is no finite number; the sample is named.
        """
        columns = [(weight, verify(samples)) for weight, verify in self._parts]
        return [
            _combined(sample, [(weight, verdicts[index]) for weight, verdicts in columns])
            for index, sample in enumerate(samples)
        ]

    def close(self) -> None:
        """End the processes that score."""
        for pool in self._pools:
            pool.close()

    def _verifier(self, spec: SingleReward) -> _Many:
        kind = VERIFIERS[spec.type]
        if not kind.apart(spec):
            verify = kind.build(spec)
            return lambda samples: [_verdict(verify, sample) for sample in samples]
        timeout_s: float = spec.timeout_s  # type: ignore[union-attr]  # every kind that is scored apart has one
        pool = Pool(spec, timeout_s, between=self._between)
        self._pools.append(pool)
        return lambda samples: self._in_time(pool.score(samples), samples, timeout_s)

    def _in_time(self, verdicts: list[Verdict | None], samples: Sequence[Sample], timeout_s: float) -> list[Verdict]:
        late = [sample for verdict, sample in zip(verdicts, samples, strict=True) if verdict is None]
        if late:
            self._warn(
                f"{len(late)} completions took longer than {timeout_s:g} s to score and got 0; one was {late[0]}"
            )
        return [verdict or Verdict(0.0) for verdict in verdicts]


def _verdict(verify: Callable[[Sample], Verdict], sample: Sample) -> Verdict:
    try:
        return verify(sample)
    except Exception as error:  # a verifier is foreign code; whatever it raises must name its sample
        raise RewardError(f"the reward raised {type(error).__name__}: {error}; it was scoring {sample}") from error


def _combined(sample: Sample, verdicts: list[tuple[float, Verdict]]) -> Score:
    reward = sum(weight * verdict.reward for weight, verdict in verdicts)
    if not math.isfinite(reward):
        raise RewardError(f"the reward is {reward}, but it has to be a finite number; it was scoring {sample}")
    first = verdicts[0][1]
    return Score(reward, first.reward == 1, first.answer)
