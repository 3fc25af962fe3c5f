"""Where a stop reaches a step that is under way: at every forward pass, and while other processes score.

So at most a micro-batch is waited for, or half a second.

What the unfinished step drew and learned is put back. A checkpoint written then holds the state from before the step,
and a run that goes on from it does the step again, to the bit. Once an optimizer step has moved the weights there is
no way back: what is left of the step (its further `num_iterations`) is done first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from nat_core.model import Policy
from nat_core.ranks import ALONE
from nat_core.token_selection import GradientMass


class Interrupted(BaseException):
    """A stop was asked for; nothing that a checkpoint holds belongs to an unfinished step.

    No `Exception`: it passes through models' code, and whoever tries what a model can do catches those.
    """


class Interrupt:
    """Asks at every forward pass of a policy whether to stop.

    Args:
        should_stop: whether a stop was asked for.
        on_pass: called at every pass, for those who want to see that there is progress.
    """

    def __init__(self, should_stop: Callable[[], bool], on_pass: Callable[[], None]) -> None:
        self._should_stop = should_stop
        self._on_pass = on_pass
        self._weights_moved = False
        self._ranks = ALONE

    def watch(self, policy: Policy) -> None:
        """From here on the passes of this policy count: micro-batches, tokens of a rollout, evaluations."""
        self._ranks = policy.ranks
        policy.on_passes(in_step=self.check, apart=self.check_alone)

    def check(self) -> None:
        """Raise `Interrupted` if a stop was asked for, of any rank, and this is a place for it."""
        self._ranks.unless(Interrupted, self.check_alone)

    def check_alone(self) -> None:
        """Where ranks do not keep step; whoever lets them do so sees that all of them stop."""
        self._on_pass()
        if self._should_stop() and not self._weights_moved:
            raise Interrupted

    def weights_moved(self) -> None:
        """Tell that the step can no longer be undone."""
        self._weights_moved = True

    @contextmanager
    def step(self, generator: torch.Generator, law_state: GradientMass) -> Iterator[None]:
        """One step of the trainer, done whole or not at all."""
        drawn, learned = generator.get_state(), law_state.state_dict()
        try:
            yield
        except Interrupted:
            generator.set_state(drawn)
            law_state.load_state_dict(learned)
            raise
        finally:
            self._weights_moved = False
