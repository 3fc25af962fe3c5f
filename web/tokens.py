"""The Tokens tab: one sampled completion, token by token, with what the budget did to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nat_core.events import SampleEvent

_VISIBLE = {"\n": "↵\n", "\t": "⇥\t", "\r": "␍"}


@dataclass(frozen=True)
class TokenView:
    """`position` counts from 1. `weight` is 1/p of a kept token, None for the others."""

    position: int
    shown: str
    kept: bool
    prob: float
    weight: float | None
    logprob: float | None


@dataclass(frozen=True)
class SampleView:
    """`cut_at` is the position after which a prefix cut dropped everything; None where nothing was cut there."""

    step: int
    index: int  # of the step's samples, from 0
    num_in_step: int
    prompt: str
    answer: str
    reward: float
    advantage: float
    tokens: list[TokenView]
    cut_at: int | None

    @property
    def num_kept(self) -> int:
        return sum(token.kept for token in self.tokens)

    @property
    def max_weight(self) -> float | None:
        return max((token.weight for token in self.tokens if token.weight is not None), default=None)


@dataclass(frozen=True)
class SampleChoice:
    """What the picker offers: the steps that have samples, and the neighbours as (step, index)."""

    steps: list[int]
    shown: SampleView
    previous: tuple[int, int] | None
    following: tuple[int, int] | None


def choose_sample(
    samples: Sequence[SampleEvent], step: int | None, index: int | None, prefix_cut: bool
) -> SampleChoice | None:
    """The sample asked for, or the nearest there is: the newest step without a wish. None when there is no sample."""
    if not samples:
        return None
    steps = sorted({sample.step for sample in samples})
    chosen_step = steps[-1] if step is None else min(steps, key=lambda known: (abs(known - step), known))
    order = [(known, i) for known in steps for i in range(sum(s.step == known for s in samples))]
    of_step = [sample for sample in samples if sample.step == chosen_step]
    chosen = min(max(index or 0, 0), len(of_step) - 1)
    place = order.index((chosen_step, chosen))
    return SampleChoice(
        steps=steps,
        shown=sample_view(of_step[chosen], chosen, len(of_step), prefix_cut),
        previous=order[place - 1] if place > 0 else None,
        following=order[place + 1] if place + 1 < len(order) else None,
    )


def sample_view(sample: SampleEvent, index: int, num_in_step: int, prefix_cut: bool) -> SampleView:
    """One sample as the page shows it. `prefix_cut`: the budget keeps a prefix, so the cut can be shown."""
    logprobs: Sequence[float | None] = sample.logprobs or [None] * len(sample.tokens)
    tokens = [
        TokenView(position, visible(text), kept, prob, 1 / prob if kept and prob > 0 else None, logprob)
        for position, (text, kept, prob, logprob) in enumerate(
            zip(sample.tokens, sample.keep, sample.inclusion_prob, logprobs, strict=True), start=1
        )
    ]
    return SampleView(
        step=sample.step,
        index=index,
        num_in_step=num_in_step,
        prompt=sample.prompt,
        answer=sample.answer,
        reward=sample.reward,
        advantage=sample.advantage,
        tokens=tokens,
        cut_at=cut_position(sample.keep) if prefix_cut else None,
    )


def cut_position(keep: Sequence[bool]) -> int | None:
    """Number of kept tokens when they are a proper, non-empty prefix; None otherwise."""
    kept = sum(keep)
    is_prefix = all(keep[:kept])
    return kept if is_prefix and 0 < kept < len(keep) else None


def visible(text: str) -> str:
    """The token with its line breaks and tabs made visible."""
    return "".join(_VISIBLE.get(char, char) for char in text)
