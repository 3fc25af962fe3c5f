"""Answers that are kept in memory until what they are about changes.

Every change of an experiment or of its runs goes through `Store.change`, which says so here. An answer is kept with
the number of changes that were known before it was read, so that one that was read too early is not taken for later.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """One answer for each experiment; of many experiments the newest `most`."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._changes: Counter[str] = Counter()
        self._answers: OrderedDict[str, tuple[Hashable, T]] = OrderedDict()

    def changed(self, experiment_id: str) -> None:
        """What is kept of this experiment holds no more."""
        self._changes[experiment_id] += 1

    def of(self, experiment_id: str, about: Hashable, make: Callable[[], T]) -> T:
        """The answer that is kept, or else `make()`; `about` is what else it depends on."""
        key = (self._changes[experiment_id], about)
        kept = self._answers.get(experiment_id)
        if kept is not None and kept[0] == key:
            return kept[1]
        made = make()
        self._answers.pop(experiment_id, None)
        self._answers[experiment_id] = (key, made)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)
        return made
