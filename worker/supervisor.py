"""A run from claim to end: one trainer process, its events on their way, its orders from the server."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import redis

from nat_core.logs import about
from worker.client import Claimed, Desired, Orders, ServerClient
from worker.errors import FolderTakenError, RefusedError, ServerAwayError, WorkerError
from worker.folder import RunFolder
from worker.gpus import Gpus, Lease
from worker.identity import Identity
from worker.progress import Progress
from worker.relay import Backfill, EventRelay
from worker.settings import WorkerSettings
from worker.spare import Spares
from worker.tail import EventTail
from worker.trainer import TRAINER, Ending, TrainerProcess
from worker.usage import Meter, Usage
from worker.usage_log import UsageLog

log = logging.getLogger(__name__)

_LEAVING_STORED_WAIT_S = 10.0  # for the last events to be stored, at most, when the worker was told to go
_KILLED_STORED_WAIT_S = 2.0  # the same when the run is to be gone at once
_FAREWELL_S = 0.5  # from a trainer's last event to its exit
_RETRY_S = 1.0
_OVER = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)  # the run is deleted, or the attempt is another's
T = TypeVar("T")


class Supervisor:
    """Runs one trainer at a time, and between them keeps one ready.

    Args:
        leaving: is set when the worker was told to end.
        argv: the command that starts a trainer.
        spares: where the trainer that waits for a run is kept; none unless given.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        client: ServerClient,
        connection: redis.Redis,
        me: Identity,
        leaving: threading.Event,
        argv: Sequence[str] = TRAINER,
        gpus: Gpus | None = None,
        spares: Spares | None = None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._redis = connection
        self._me = me
        self._leaving = leaving
        self._argv = argv
        self._gpus = gpus or Gpus(settings.home, "")
        self._spares = spares or Spares(None)

    def run(self, run_id: str) -> None:
        """A run waits: claim the next one that fits this worker, train it, and say how it ended.

        That need not be the run that was rung for: the server knows the queue.
        """
        with self._gpus.lease_free() as lease:
            claimed = self._claim(len(lease))
            if claimed is None:
                log.info("left alone: nothing that waits fits this worker", extra=about(run_id))
                return
            lease.keep(claimed.gpus)
            log.info("attempt %d begins", claimed.attempt, extra=about(claimed.run_id, claimed.attempt))
            ending = self._attempt(claimed.run_id, claimed, lease)
            if not self._leaving.is_set():
                self._spares.prepare()
            if ending is not None:
                self._finish(claimed.run_id, claimed.attempt, ending)

    def _attempt(self, run_id: str, claimed: Claimed, lease: Lease) -> Ending | None:
        """Train in the run's folder; how it ended, or None if the attempt is no longer ours."""
        path = self._settings.runs / run_id
        try:
            folder = RunFolder(path, claimed, self._settings.folder_wait_s)
        except FolderTakenError as error:
            return Ending("handed_back", error.code, error.message)  # nothing of it was lost, and it may go on there
        except OSError as error:
            return Ending("failed", "disk", f"the run's folder {path} cannot be used ({error}); free or repair it")
        try:
            trainer = TrainerProcess(self._argv, folder, lease, self._spares.take())
        except OSError as error:
            return Ending("failed", "disk", f"no trainer could be started in {path} ({error}); free or repair it")
        finally:
            folder.let_go()
        try:
            with Usage(Meter(trainer.pid, lease.indices), UsageLog(folder.own.usage)) as usage:
                return self._watch(run_id, claimed.attempt, trainer, folder, usage).until_the_end()
        finally:
            trainer.kill()

    def _watch(self, run_id: str, attempt: int, trainer: TrainerProcess, folder: RunFolder, usage: Usage) -> _Watch:
        patience_s, earlier = self._settings.resend_s, folder.earlier
        tail = EventTail(folder.own.events)
        relay = EventRelay(tail, self._redis, run_id, attempt, patience_s, earlier, usage.told)
        backfill = Backfill(folder.left_behind, self._redis, run_id, patience_s)
        progress = Progress(folder.own.events)
        beat = partial(self._client.heartbeat, self._me, run_id, attempt)
        return _Watch(self._settings, beat, about(run_id, attempt), trainer, relay, backfill, progress, self._leaving)

    def _claim(self, free_gpus: int) -> Claimed | None:
        try:
            return self._insist(lambda: self._client.claim_next(self._me, free_gpus), patience_s=0)
        except RefusedError as refusal:
            log.warning("no run can be claimed: %s", refusal.message)
        return None

    def _finish(self, run_id: str, attempt: int, ending: Ending) -> None:
        def finish() -> bool:
            message = ending.message[:4000] if ending.message else None
            self._client.finish(self._me, run_id, attempt, ending.outcome, ending.reason, message)
            return True

        try:
            told = self._insist(finish, patience_s=3)
        except RefusedError as refusal:
            log.warning("its end was refused: %s", refusal.message, extra=about(run_id, attempt))
        else:
            known = "" if told else ", but the server does not know"
            log.info("%s%s", ending.outcome, known, extra=about(run_id, attempt))

    def _insist(self, call: Callable[[], T], patience_s: float) -> T | None:
        """Repeat a call until the server answers; once the worker is leaving, only so much longer."""
        give_up_at: float | None = None
        while True:
            try:
                return call()
            except ServerAwayError as error:
                log.warning("%s", error.message)
            if self._leaving.is_set():
                give_up_at = give_up_at or time.monotonic() + patience_s
                if time.monotonic() >= give_up_at:
                    return None
            time.sleep(_RETRY_S)


class _Watch:
    """Looking after one trainer until it has ended."""

    def __init__(
        self,
        settings: WorkerSettings,
        heartbeat: Callable[[int], Orders],
        about_it: dict[str, Any],
        trainer: TrainerProcess,
        relay: EventRelay,
        backfill: Backfill,
        progress: Progress,
        leaving: threading.Event,
    ) -> None:
        self._settings = settings
        self._heartbeat = heartbeat
        self._about = about_it
        self._trainer = trainer
        self._relay = relay
        self._backfill = backfill
        self._leaving = leaving
        self._progress = progress
        self._next_beat = 0.0
        self._kill_at: float | None = None
        self._bury_at: float | None = None
        self._desired: Desired = "run"
        self._evicted = False
        self._server_away = False
        self._hung = False

    def until_the_end(self) -> Ending | None:
        """Relay events and obey orders while the trainer lives. None if the attempt is no longer ours."""
        while not self._trainer.ended():
            self._pump()
            self._beat_if_due()
            if self._evicted or self._desired == "kill":
                self._trainer.kill()
            elif self._relay.ended is not None:
                self._cut_the_farewell()
            elif self._desired != "run" or self._leaving.is_set():
                self._bring_to_stop()
            else:
                self._end_if_hung()
            time.sleep(self._settings.tail_s)
        self._hand_over_the_rest()
        return None if self._evicted else self._ending()

    def _pump(self) -> None:
        self._backfill.pump()
        self._relay.pump()

    def _beat_if_due(self) -> None:
        if time.monotonic() < self._next_beat:
            return
        try:
            orders = self._heartbeat(self._relay.step)
        except RefusedError as refusal:
            if refusal.status in _OVER:
                log.warning("the trainer is ended: %s", refusal.message, extra=self._about)
                self._evicted = True
            else:  # a token that is not known any more says nothing of the attempt
                self._go_on_without_server(refusal)
        except ServerAwayError as error:
            self._go_on_without_server(error)
        else:
            self._server_away = False
            self._desired = orders.desired
            self._relay.confirm(orders.last_seq)
            self._backfill.confirm(orders.earlier)
        self._next_beat = time.monotonic() + self._settings.heartbeat_s

    def _go_on_without_server(self, error: WorkerError) -> None:
        log.warning("training goes on: %s", error.message, extra=self._about)
        self._server_away = True
        self._relay.give_time()
        self._backfill.give_time()

    def _bring_to_stop(self) -> None:
        """First ask, then insist; less patiently when the worker itself has to go."""
        grace_s = self._settings.shutdown_grace_s if self._leaving.is_set() else self._settings.stop_grace_s
        now = time.monotonic()
        if self._kill_at is None:
            self._trainer.stop()
            self._kill_at = now + grace_s
        self._kill_at = min(self._kill_at, now + grace_s)
        if now >= self._kill_at:
            log.warning("the trainer did not stop in time and is killed", extra=self._about)
            self._trainer.kill()

    def _end_if_hung(self) -> None:
        if self._progress.age_s() > self._settings.hang_s:
            log.warning("the trainer hangs and is killed", extra=self._about)
            self._hung = True
            self._trainer.kill()

    def _cut_the_farewell(self) -> None:
        """After its last event a trainer only takes itself apart, which with torch can last for seconds."""
        now = time.monotonic()
        self._bury_at = self._bury_at or now + _FAREWELL_S
        if now >= self._bury_at:
            self._trainer.kill()

    def _hand_over_the_rest(self) -> None:
        """Until the server has stored every event, so that a finished run is a complete one.

        As long as Redis or the server is away there is nothing better to do than to wait: no other run could be
        taken. What a kill or a leaving worker has no time for is found in the folder later (`worker.leftovers`).
        """
        began = moved_at = time.monotonic()
        before = 0
        relays = [self._relay, *self._backfill.relays]
        while not self._evicted:
            self._pump()
            self._next_beat = 0.0
            self._beat_if_due()
            missing = sum(relay.num_missing for relay in relays)
            if self._backfill.all_known and not missing:
                return
            stored, now = sum(relay.stored for relay in relays), time.monotonic()
            if stored != before or self._server_away or any(relay.redis_away for relay in relays):
                before, moved_at = stored, now
            if now - began >= self._longest_wait_s() or now - moved_at >= self._settings.stored_wait_s:
                log.warning("the server lacks %d of its events; they stay in its folder", missing, extra=self._about)
                return
            time.sleep(self._settings.tail_s)

    def _longest_wait_s(self) -> float:
        """How long the end may be put off, whatever is missing."""
        if self._desired == "kill":
            return _KILLED_STORED_WAIT_S
        if self._leaving.is_set():
            return min(self._settings.shutdown_grace_s / 2, _LEAVING_STORED_WAIT_S)
        return math.inf

    def _ending(self) -> Ending:
        ending = self._trainer.ending(self._relay.ended)
        if ending.outcome == "succeeded":
            return ending
        was_killed = ending.outcome == "lost" and ending.reason == "killed"
        if self._hung and was_killed:
            message = f"the trainer made no progress for {self._settings.hang_s:g} s (NATLAB_HANG_S) and was killed"
            return Ending("lost", "hung", message)
        if self._desired in ("pause", "stop"):
            if was_killed:
                message = f"it did not end within {self._settings.stop_grace_s:g} s of being asked and was killed"
                return Ending("stopped", "killed", message)
            return ending
        if self._desired == "run" and self._leaving.is_set() and (ending.outcome == "stopped" or was_killed):
            return Ending("handed_back", "worker_left", "its worker was told to end while it ran")
        return ending
