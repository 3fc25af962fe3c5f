"""Answers to questions that were held out, sampled and greedy, with the rollout engine."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from nat_core.answers import Answers
from nat_core.data import Example, PromptSource, open_questions
from nat_core.interrupt import Interrupted
from nat_core.model import Policy
from nat_core.reward import Sample, Score, Scorer
from nat_core.rollout.completion import Completion, Sampling
from nat_core.rollout.engine import Engine
from nat_core.spec import RunSpec
from nat_core.tally import tally


@dataclass(frozen=True)
class QuestionSet:
    """Questions, what says that an answer is right, and how often each is answered."""

    examples: list[Example]
    scorer: Scorer
    num_samples: int


class Evaluator:
    """The run's own questions, and every named set."""

    def __init__(
        self,
        spec: RunSpec,
        source: PromptSource,
        scorer: Scorer,
        warn: Callable[[str], None],
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the named sets.

        Args:
            source, scorer: of the run's own questions.
            warn, between: of the scorers of sets with a reward of their own.

        Raises:
            SpecError: a set's data or reward cannot be used.
        """
        self._spec = spec
        self._own = source, scorer
        self._sets = {
            name: (
                open_questions(part.data, part.num_prompts, f"evaluation.sets.{name}.data"),
                scorer if part.reward is None else Scorer(part.reward, warn, between),
            )
            for name, part in spec.evaluation.sets.items()
        }

    @property
    def sources(self) -> list[PromptSource]:
        """The named sets' sources."""
        return [source for source, _ in self._sets.values()]

    def evaluate(self, policy: Policy, engine: Engine, seed: int) -> tuple[Answers, dict[str, Answers]]:
        """Answers to the run's own questions, and by name to the others."""
        settings = self._spec.evaluation
        source, scorer = self._own
        own = QuestionSet(source.evaluation_set(settings.num_prompts), scorer, settings.num_samples)
        named = {}
        for name, (source, scorer) in self._sets.items():
            part = settings.sets[name]
            questions = source.evaluation_set(part.num_prompts)
            asked = QuestionSet(questions, scorer, part.num_samples or settings.num_samples)
            named[name] = evaluate(policy, engine, asked, self._spec, random.Random(f"{seed}/{name}").getrandbits(48))
        return evaluate(policy, engine, own, self._spec, seed), named

    def close(self) -> None:
        """End the processes that score."""
        for _, scorer in (self._own, *self._sets.values()):
            scorer.close()


def evaluate(policy: Policy, engine: Engine, questions: QuestionSet, spec: RunSpec, seed: int) -> Answers:
    """Answer every question `num_samples` times, and once greedily where the spec asks for it.

    Args:
        seed: of the sampling; the same at every evaluation of a run, which steadies the curve.
    """
    prompts = [policy.encode(example) for example in questions.examples]

    def answer(num_samples: int, temperature: float | None) -> list[list[Completion]]:
        return engine.generate(prompts, Sampling(num_samples, spec.rollout.max_completion_length, temperature, seed))

    sampled = answer(questions.num_samples, spec.evaluation.temperature)
    scores = score_groups(policy, questions.scorer, questions.examples, sampled)
    greedy = None
    if spec.evaluation.greedy:
        best = score_groups(policy, questions.scorer, questions.examples, answer(1, None))
        greedy = sum(score.correct for [score] in best) / len(best)
    return tally(
        right=[[score.correct for score in group] for group in scores],
        given=[[score.answer for score in group] for group in scores] if questions.scorer.reads_answers else None,
        lengths=[len(completion.ids) for group in sampled for completion in group],
        greedy=greedy,
    )


def score_groups(
    policy: Policy, scorer: Scorer, examples: list[Example], groups: list[list[Completion]]
) -> list[list[Score]]:
    """Score completions, group by group; of several ranks each scores a share, and all get all."""
    ranks, of_examples = policy.ranks, list(zip(examples, groups, strict=True))
    samples = [
        Sample(
            example.prompt,
            policy.decode(completion.ids),
            example.answer,
            num_tokens=len(completion.ids),
            entry=example.entry,
        )
        for example, group in of_examples[ranks.rank :: ranks.size]
        for completion in group
    ]
    scores = iter(ranks.unless(Interrupted, lambda: scorer.score(samples)))
    own = [[next(scores) for _ in group] for group in groups[ranks.rank :: ranks.size]]
    if ranks.alone:
        return own
    told = ranks.share([[(score.reward, score.correct, score.answer) for score in group] for group in own])
    return [[Score(*score) for score in told[i % ranks.size][i // ranks.size]] for i in range(len(groups))]
