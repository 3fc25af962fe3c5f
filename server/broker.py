"""Redis as the server uses it: Celery's doorbell for workers, and the stream that events come in by."""

from __future__ import annotations

from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from server.errors import BrokerUnavailableError
from server.settings import without_password

QUEUE = "natlab"
TASK = "natlab.train"
_TIMEOUT_S = 3.0


class Broker:
    """The connection to Redis. Making one connects to nothing."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # once, for a connection that Redis closed in its restart
        )
        self._celery = Celery("natlab", broker=celery_url(url), set_as_current=False)
        self._celery.conf.update(
            task_serializer="json",
            accept_content=["json"],
            task_ignore_result=True,
            broker_transport_options={
                "socket_timeout": _TIMEOUT_S,
                "socket_connect_timeout": _TIMEOUT_S,
                "max_retries": 0,
            },
        )

    def check(self) -> None:
        """Raise `BrokerUnavailableError` unless Redis answers."""
        try:
            self.redis.ping()
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(error) from None

    def send(self, run_id: str) -> None:
        """Ring for a worker. Ringing twice does no harm: a run can be claimed once."""
        try:
            self._celery.send_task(TASK, args=[run_id], queue=QUEUE, retry=False)
        except (OperationalError, redis.RedisError, OSError) as error:
            raise self._unavailable(error) from None

    def waiting(self) -> int:
        """How many rings no worker has taken yet."""
        try:
            return self.redis.llen(QUEUE)
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(error) from None

    def lag(self, stream: str) -> tuple[int, float]:
        """How many entries a stream holds, and the age of the oldest in seconds, by Redis's own clock."""
        try:
            with self.redis.pipeline() as pipe:
                pipe.xlen(stream)
                pipe.xrange(stream, count=1)
                pipe.time()
                length, oldest, (seconds, micros) = pipe.execute()
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(error) from None
        if not oldest:
            return int(length), 0.0
        return int(length), max(0.0, seconds + micros / 1e6 - int(oldest[0][0].partition("-")[0]) / 1e3)

    def close(self) -> None:
        self._celery.close()
        self.redis.close()

    def _unavailable(self, error: Any) -> BrokerUnavailableError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return BrokerUnavailableError(
            f"NATLAB_REDIS_URL is {without_password(self.url)!r}, but Redis does not answer there ({reason}); "
            "start it or correct the address"
        )


def celery_url(redis_url: str) -> str:
    """The same address as Celery spells it."""
    return redis_url.replace("unix://", "redis+socket://", 1)
