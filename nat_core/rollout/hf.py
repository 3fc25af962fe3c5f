"""Completions by the trainer's own model, in its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nat_core.interrupt import Interrupted
from nat_core.model import Policy, switch_dropout_off
from nat_core.rollout import plain, slots
from nat_core.rollout.cache import serves
from nat_core.rollout.completion import Completion, Sampling
from nat_core.rollout.exchange import all_completions


@torch.no_grad()
def generate(
    policy: Policy, prompts: list[list[int]], sampling: Sampling, max_batch_size: int
) -> list[list[Completion]]:
    """The completions of each prompt, given as token ids; of several ranks each samples a share, and all get all.

    Args:
        max_batch_size: completions sampled together.
    """
    count = sampling.num_samples
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    jobs = [i * count + k for i in order for k in range(count)]
    waits, ranks = waits_for_the_longest(policy), policy.ranks
    # Prompts are dealt out one by one. Where random numbers go by batch those stay what they are with one rank.
    engine, together = (plain.sample, max_batch_size) if waits else (slots.sample, count)
    own = [job for place, job in enumerate(jobs) if place // together % ranks.size == ranks.rank]

    def sample() -> list[Completion]:
        with policy.whole() as whole, _sampling_mode(whole):
            return engine(whole, prompts, own, sampling, max_batch_size)

    found = all_completions(ranks, dict(zip(own, ranks.unless(Interrupted, sample), strict=True)))
    return [[found[i * count + k] for k in range(count)] for i in range(len(prompts))]


def waits_for_the_longest(policy: Policy) -> str | None:
    """Why completions of this model are sampled in batches that end together; None where none waits for another."""
    if policy.unpackable:
        return policy.unpackable
    return None if serves(policy.model) else "its cache keeps something other than all keys and values"


@contextmanager
def _sampling_mode(policy: Policy) -> Iterator[None]:
    """Evaluation mode and the policy's precision; in training mode gradient checkpointing switches the cache off."""
    was_training = policy.model.training
    policy.model.eval()
    try:
        with policy.autocast():
            yield
    finally:
        if was_training:
            policy.model.train()
            switch_dropout_off(policy.model)


class HfEngine:
    """The trainer's own model as rollout engine: it has the newest weights, and holds nothing of its own."""

    def __init__(self, policy: Policy, max_batch_size: int) -> None:
        self._policy, self._max_batch_size = policy, max_batch_size

    @property
    def description(self) -> str:
        """How completions are sampled, for the log."""
        waits = waits_for_the_longest(self._policy)
        return f"batch by batch, each until its longest ends, because {waits}" if waits else "no row waits for another"

    def generate(self, prompts: list[list[int]], sampling: Sampling) -> list[list[Completion]]:
        """The completions of each prompt, given as token ids."""
        return generate(self._policy, prompts, sampling, self._max_batch_size)

    def rest(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """Nothing to free."""
