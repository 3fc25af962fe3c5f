"""`python -m worker`: register with the server, then train what the queue brings until told to leave.

What is wrong at start is one sentence on stderr and exit status 2.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from nat_core import logs
from worker import app, hardware
from worker.client import ServerClient
from worker.errors import RefusedError, ServerAwayError, StrangerError, WorkerError
from worker.gpus import Gpus, leasable
from worker.identity import Identity, take_identity
from worker.leftovers import Leftovers
from worker.settings import WorkerSettings, without_password
from worker.slots import run_slots
from worker.spare import SPARE, Spares
from worker.supervisor import Supervisor
from worker.trainer import TRAINER

log = logging.getLogger("worker")

Described = tuple[str, dict[str, Any], Sequence[str]]
"""What a worker registers with beside its name: host, hardware and labels."""

_SERVER_WAIT_S = 60.0
_REGISTER_S = 10.0
_TAKEN = "worker_taken"


def main(trainer: Sequence[str] = TRAINER, spare: Sequence[str] | None = SPARE) -> int:
    """Run the worker.

    Args:
        trainer: the command that gets a spec file and starts training.
        spare: the command of one that waits for a run; None where trainers are started when they are needed.
    """
    logs.set_up()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until Celery takes the signals over
    try:
        settings = WorkerSettings.from_env()
        logs.set_up(settings.log_as_json, settings.secrets)
        machine = hardware.report()
        found = leasable([gpu["index"] for gpu in machine["gpus"]], os.environ.get("CUDA_VISIBLE_DEVICES"))
        machine["gpus"] = [gpu for gpu in machine["gpus"] if gpu["index"] in found]
        slots = settings.slots or max(1, len(found))
        if slots > 1:
            return run_slots(slots, [sys.executable, *sys.orig_argv[1:]], os.environ | {"NATLAB_WORKER_SLOTS": "1"})
        connection = connect(settings)
        hostname = socket.gethostname()
        client = ServerClient(settings.server_url, settings.token)
        described = (hostname, machine, settings.labels)
        me = register(client, take_identity(settings.home, hostname), described)
    except WorkerError as error:
        print(f"natlab worker: {error.message}", file=sys.stderr)
        return 2
    leaving = threading.Event()
    threading.Thread(target=keep_registered, args=(client, me, described, leaving), daemon=True).start()
    leftovers = Leftovers(settings.runs, client, connection)
    threading.Thread(target=leftovers.keep_sweeping, args=(leaving,), daemon=True).start()
    gpus, spares = Gpus(settings.home, hostname, found), Spares(spare if settings.spare else None)
    supervisor = Supervisor(settings, client, connection, me, leaving, trainer, gpus, spares)
    print(f"natlab worker {me.worker_id} takes runs from {settings.server_url}", flush=True)
    spares.prepare()
    try:
        return app.serve(app.make_app(settings.redis_url, supervisor), leaving)
    finally:
        spares.end()


def connect(settings: WorkerSettings) -> redis.Redis:
    """A connection that has answered once."""
    connection = redis.Redis.from_url(
        settings.redis_url,
        socket_timeout=2.0,
        socket_connect_timeout=1.0,
        retry=Retry(NoBackoff(), 1),  # once, for a connection that Redis closed in its restart
    )
    try:
        connection.ping()
    except (redis.RedisError, OSError) as error:
        raise WorkerError(
            f"NATLAB_REDIS_URL is {without_password(settings.redis_url)!r}, but Redis does not answer there "
            f"({' '.join(str(error).split())}); start it or correct the address"
        ) from None
    return connection


def register(client: ServerClient, me: Identity, described: Described) -> Identity:
    """Make this worker known, waiting for a server that is only just starting; returns the name it goes by."""
    began = time.monotonic()
    waiting = False
    while True:
        try:
            client.register(me, *described)
            return me
        except RefusedError as refusal:
            if refusal.code != _TAKEN or me == me.with_home():
                raise
            me = me.with_home()
            continue
        except StrangerError:  # at the start a wrong address is likelier than a proxy without its server
            raise
        except ServerAwayError as error:
            if time.monotonic() - began >= _SERVER_WAIT_S:
                raise
            if not waiting and time.monotonic() - began > 3:  # beside a starting server there is nothing to say
                log.info("waiting %g s for the server: %s", _SERVER_WAIT_S, error.message)
                waiting = True
        time.sleep(0.5)


def keep_registered(client: ServerClient, me: Identity, described: Described, leaving: threading.Event) -> None:
    """Tell the server now and then that this worker is still there."""
    while not leaving.wait(_REGISTER_S):
        try:
            client.register(me, *described)
        except (ServerAwayError, RefusedError) as error:
            log.warning("%s", error.message)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # told to go before Celery listened
        sys.exit(main())
