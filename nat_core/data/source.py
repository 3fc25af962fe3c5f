"""Where a run draws prompts from: rows in a fresh seeded order each epoch, or the demo made on the fly."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from nat_core.data.example import Example, Examples
from nat_core.demo.task import random_chain
from nat_core.errors import Fault, SpecError
from nat_core.spec import DemoArithmetic

_DEMO_EVALUATION_SEED = 20_260_306  # the demo's question set is the same for every run


class PromptSource(Protocol):
    """Where a run's prompts come from."""

    @property
    def notes(self) -> list[str]:
        """What the run's log should say: rows that were left out."""

    def training_batch(self, seed: int, step: int, num_prompts: int) -> list[Example]:
        """Prompts of a step (0-based); the same for the same arguments."""

    def evaluation_set(self, num_prompts: int) -> list[Example]:
        """Held-out prompts, at most `num_prompts`; the same in every run."""

    def limit_prompts(self, num_tokens: Callable[[Example], int], limit: int) -> None:
        """Before training: hold every prompt to `limit` tokens, as `on_bad_row` says.

        Raises:
            SpecError: a prompt is longer, and such rows fail.
        """


class DemoSource:
    """Chained arithmetic, made on the fly."""

    def __init__(self, spec: DemoArithmetic) -> None:
        self.spec = spec
        self.notes: list[str] = []  # nothing is ever left out

    def training_batch(self, seed: int, step: int, num_prompts: int) -> list[Example]:
        return self._draw(random.Random(f"demo-train-{seed}-{step}"), num_prompts)

    def evaluation_set(self, num_prompts: int) -> list[Example]:
        return self._draw(random.Random(_DEMO_EVALUATION_SEED), num_prompts)

    def limit_prompts(self, num_tokens: Callable[[Example], int], limit: int) -> None:
        most = self.spec.max_operations
        chain = random_chain(random.Random(0), most, most)  # all with as many operations are as long
        longest = num_tokens(Example(chain.prompt, chain.answer))
        if longest > limit:
            detail = (
                f"rollout.max_prompt_length is {limit}, but prompts of data.max_operations {most} have {longest} "
                "tokens; raise it or lower that"
            )
            raise SpecError(detail, [Fault("/rollout/max_prompt_length", detail)])

    def _draw(self, rng: random.Random, count: int) -> list[Example]:
        chains = (random_chain(rng, self.spec.min_operations, self.spec.max_operations) for _ in range(count))
        return [Example(chain.prompt, chain.answer) for chain in chains]


class RowSource:
    """Rows in a fresh seeded order each epoch. Without `training` it only asks questions."""

    def __init__(self, training: Examples | None, evaluation: Examples) -> None:
        self._training, self._evaluation = training, evaluation
        self._order_of: tuple[int, int, int] | None = None

    @property
    def notes(self) -> list[str]:
        parts = [part for part in (self._training, self._evaluation) if part is not None]
        return [f"{part.rules.source}: {part.skipped}" for part in parts if part.skipped.count]

    def training_batch(self, seed: int, step: int, num_prompts: int) -> list[Example]:
        start = step * num_prompts
        return [self._at(seed, start + offset) for offset in range(num_prompts)]

    def evaluation_set(self, num_prompts: int) -> list[Example]:
        return self._evaluation.rows[:num_prompts]

    def limit_prompts(self, num_tokens: Callable[[Example], int], limit: int) -> None:
        for part in (self._training, self._evaluation):
            if part is not None:
                part.limit_prompts(num_tokens, limit)

    def _at(self, seed: int, position: int) -> Example:
        rows = [] if self._training is None else self._training.rows
        epoch, index = divmod(position, len(rows))
        if self._order_of != (seed, epoch, len(rows)):
            self._order = list(range(len(rows)))
            random.Random(f"order-{seed}-{epoch}").shuffle(self._order)
            self._order_of = (seed, epoch, len(rows))
        return rows[self._order[index]]
