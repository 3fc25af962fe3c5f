"""The Celery side: one queue, one task, one run at a time.

Messages are acknowledged before the work begins, since Redis would hand a long task out twice
otherwise; that a run is not lost with its worker is the server's business. The pool is `solo`: the
supervisor runs in the main thread, so that the kernel ends the trainer with exactly this process.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from worker.supervisor import Supervisor

QUEUE = "natlab"
TASK = "natlab.train"


def celery_url(redis_url: str) -> str:
    """The same address as Celery spells it."""
    return redis_url.replace("unix://", "redis+socket://", 1)


def make_app(redis_url: str, supervisor: Supervisor) -> Celery:
    app = Celery("natlab", broker=celery_url(redis_url), set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=False,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )

    app.task(supervisor.run, name=TASK)
    return app


def keep_logging(**_: Any) -> None:
    """A receiver of this signal is Celery's way to say: leave logging as it is set up."""


def serve(app: Celery, leaving: threading.Event) -> int:
    """Take runs until a signal says to leave; `leaving` is set at the signal, while a run may be going."""

    def leave(**_: Any) -> None:
        leaving.set()

    signals.worker_shutting_down.connect(leave, weak=False)
    signals.setup_logging.connect(keep_logging, weak=False)
    # Running as root, as containers do, is dangerous with pickled messages; these are JSON only.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # What it announces concerns late acknowledgement, which is not used here.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    worker = app.Worker(
        pool="solo",
        concurrency=1,
        queues=[QUEUE],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
