"""The Tokens tab: one sampled completion, token by token, with what the budget did to it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nat_core.events import SampleEvent

_EXCERPT = 80
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


@dataclass(frozen=True, order=True)
class Place:
    """Where a sample stands: the step, and which of the step's samples it is, from 0."""

    step: int
    index: int


@dataclass(frozen=True)
class SampleFilter:
    """Which samples are looked for. `outcome` is `right` (rewarded), `wrong`, or empty for both."""

    words: str = ""
    outcome: str = ""
    step: int | None = None

    @property
    def is_plain(self) -> bool:
        return not self.words.split() and not self.outcome


OUTCOMES = {"": "all", "right": "rewarded", "wrong": "not rewarded"}


def matches(sample: Mapping[str, Any], wanted: SampleFilter) -> bool:
    """Whether every word stands in the prompt, the completion or the answer of a sample's decoded event."""
    if wanted.outcome and (sample["reward"] > 0) != (wanted.outcome == "right"):
        return False
    text = f"{sample['prompt']}\n{''.join(sample['tokens'])}\n{sample['answer']}".lower()
    return all(word in text for word in wanted.words.lower().split())


@dataclass(frozen=True)
class SampleChoice:
    """What is shown of all there is: the steps that have samples, how many the step has, and the neighbours."""

    steps: list[int]
    place: Place
    num_in_step: int
    previous: Place | None
    following: Place | None


def choose_sample(
    places: Sequence[Place],
    hits: Sequence[Place],
    step: int | None,
    index: int | None,
    kept_in_part: Container[Place] = (),
) -> SampleChoice | None:
    """The sample asked for, or the nearest there is; without a wish one of the newest step that was found.

    That is the first that was kept in part, which shows what a budget does, else the first. Neighbours are those among
    `hits`, oldest first; None when there is no sample.
    """
    if not places:
        return None
    known = hits or places
    steps = sorted({place.step for place in places})
    wished = known[-1].step if step is None else min(steps, key=lambda one: (abs(one - step), one))
    num_in_step = sum(place.step == wished for place in places)
    of_step = [place for place in known if place.step == wished]
    if index is None and of_step:
        shown = min(of_step, key=lambda place: (place not in kept_in_part, place))
    else:
        shown = Place(wished, min(max(index or 0, 0), num_in_step - 1))
    before = [place for place in known if place < shown]
    after = [place for place in known if place > shown]
    return SampleChoice(steps, shown, num_in_step, max(before, default=None), min(after, default=None))


@dataclass(frozen=True)
class SampleRow:
    """A line of the list of samples."""

    place: Place
    prompt: str
    text: str
    reward: float
    advantage: float
    num_kept: int
    num_tokens: int


def sample_row(place: Place, sample: SampleEvent) -> SampleRow:
    return SampleRow(
        place=place,
        prompt=_excerpt(sample.prompt),
        text=_excerpt("".join(sample.tokens)),
        reward=sample.reward,
        advantage=sample.advantage,
        num_kept=sum(sample.keep),
        num_tokens=len(sample.tokens),
    )


def _excerpt(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _EXCERPT else f"{words[:_EXCERPT]}…"


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
