"""Accuracy on held-out prompts, sampled and greedy, with the rollout engine."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nat_core.data import Example
from nat_core.model import Policy
from nat_core.reward import Verifier, score
from nat_core.rollout.completion import Completion
from nat_core.rollout.hf import generate
from nat_core.spec import RunSpec


@dataclass(frozen=True)
class Evaluation:
    """`correct[i]` counts right samples of prompt i; accuracies are shares of all answers."""

    accuracy: float
    accuracy_greedy: float | None
    correct: list[int]
    mean_length: float
    seconds: float


def evaluate(policy: Policy, verifier: Verifier, examples: list[Example], spec: RunSpec, seed: int) -> Evaluation:
    """Answer every example `num_samples` times, and once greedily where the spec asks for it.

    Args:
        seed: of the sampling; the same at every evaluation of a run, which steadies the curve.
    """
    started = time.monotonic()
    prompts = [policy.encode(example) for example in examples]

    def answer(num_samples: int, temperature: float | None) -> list[list[Completion]]:
        return generate(
            policy,
            prompts,
            num_samples=num_samples,
            max_completion_length=spec.rollout.max_completion_length,
            temperature=temperature,
            max_batch_size=spec.rollout.max_batch_size,
            seed=seed,
        )

    def right(example: Example, completions: list[Completion]) -> int:
        texts = (policy.decode(completion.ids) for completion in completions)
        return sum(score(verifier, example.prompt, text, example.answer) == 1 for text in texts)

    settings = spec.evaluation
    sampled = answer(settings.num_samples, settings.temperature)
    correct = [right(example, group) for example, group in zip(examples, sampled, strict=True)]
    greedy = None
    if settings.greedy:
        best = answer(1, None)
        greedy = sum(right(example, group) for example, group in zip(examples, best, strict=True)) / len(examples)
    lengths = [len(completion.ids) for group in sampled for completion in group]
    return Evaluation(
        accuracy=sum(correct) / len(lengths),
        accuracy_greedy=greedy,
        correct=correct,
        mean_length=sum(lengths) / len(lengths),
        seconds=time.monotonic() - started,
    )
