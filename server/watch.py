"""What the server does of its own accord: take runs from silent workers, and ring for runs that wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from nat_core.logs import about
from server.broker import Broker
from server.errors import BrokerUnavailableError
from server.life import RunLife

log = logging.getLogger(__name__)


class Watch:
    """A thread that looks around a few times per lease."""

    def __init__(
        self, life: RunLife, broker: Broker, lease_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._life = life
        self._broker = broker
        self._lease_s = lease_s
        self._every_s = min(1.0, lease_s / 4)
        self._clock = clock
        self._looked_at = clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def look(self, at_start: bool = False) -> None:
        """One round. At start every waiting run is rung for, later only when Redis holds no ring at all:

        a worker that dies, or a Redis that forgets, takes rings with it. A ring too many does no harm.
        """
        now, before = self._clock(), self._looked_at
        self._looked_at = now
        if now - before > self._lease_s / 2 + self._every_s:  # suspended, or held up by its disk: it heard nobody
            self._life.be_patient()
        for run_id in self._life.end_leases(self._lease_s):
            log.warning("taken from its worker: no heartbeat for %g s", self._lease_s, extra=about(run_id))
        waiting = self._life.that_can_start()
        if waiting and (at_start or self._broker.waiting() == 0):
            for run_id in waiting:
                self._broker.send(run_id)

    def _run(self) -> None:
        at_start, broker_away = True, False
        while not self._stop.is_set():
            try:
                self.look(at_start)
                at_start = broker_away = False
            except BrokerUnavailableError as error:
                if not broker_away:  # said once, not at every round
                    log.warning("%s", error)
                broker_away = True
            except Exception:
                log.exception("looking after the runs failed; trying again")
            self._stop.wait(self._every_s)
