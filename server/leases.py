"""Who was heard of and when, by a clock that nobody sets: which runs are to be taken from their workers.

Only this process knows it. After a start of the server every worker has a whole lease to be heard of again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Lease = tuple[str, int]
"""A run and its attempt: what is known of one holds for no later one."""

KILL_S = 10.0
"""From the wish to kill a run to its end, whether its worker answers or not."""


class Leases:
    """What runs at work owe: a word within the lease, and their end once they are to be killed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[Lease, float] = {}
        self._kill_by: dict[Lease, float] = {}
        self._patient_since = clock()

    def hear(self, lease: Lease) -> None:
        """Its worker said something."""
        self._heard[lease] = self._clock()

    def kill(self, lease: Lease) -> None:
        """It is to end within `KILL_S` of the first time that this is said."""
        self._kill_by.setdefault(lease, self._clock() + KILL_S)

    def is_silent(self, lease: Lease, lease_s: float) -> bool:
        """Whether nothing was heard of it for longer than `lease_s`, while this server could hear."""
        return self._heard.get(lease, self._patient_since) < self._clock() - lease_s

    def outlived_its_kill(self, lease: Lease) -> bool:
        """Whether it should have ended. Of a wish from before a start of the server the time begins with this call."""
        self.kill(lease)
        return self._kill_by[lease] < self._clock()

    def be_patient(self) -> None:
        """Count every silence from now on: this server itself was not listening until now."""
        self._patient_since = self._clock()
        self._heard.clear()

    def forget(self, *leases: Lease) -> None:
        """They are over, and that is stored: said before, a disk that takes nothing would make them overdue instead."""
        for lease in leases:
            self._heard.pop(lease, None)
            self._kill_by.pop(lease, None)
