"""Send wake-ups to the workers' queues, and measure the queues. Imports no task.

A wake-up is best effort: the row is the outbox, and the dispatcher sends again what got lost. So nothing here may keep
its caller waiting. Measured with Redis stopped (SIGSTOP): ``send_task(retry=False)`` alone blocks for more than 45 s,
because connecting has its own retries and no time limit; the options below bound each step.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu.exceptions import OperationalError

from worker import telemetry
from worker.contract import CELERY_APP_NAME, QUEUES, Message
from worker.settings import Settings

if TYPE_CHECKING:
    import redis

log = telemetry.get_logger(__name__)

# Seconds that one exchange with Redis may take.
_SOCKET_TIMEOUT = 0.5
_MEASURE_TIMEOUT = 5.0


def tls_options(redis_url: str) -> dict[str, Any] | None:
    """What Celery wants to be told about a ``rediss://`` URL (Celery's page "Using Redis", "SSL")."""
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED} if redis_url.startswith("rediss://") else None


@lru_cache(maxsize=32)
def _application(redis_url: str, process_id: int, thread_id: int) -> Celery:
    application = Celery(CELERY_APP_NAME, set_as_current=False)
    application.conf.update(
        broker_url=redis_url,
        broker_use_ssl=tls_options(redis_url),
        # With a result backend each message would also subscribe to its result. Without one nothing is subscribed, and
        # the workers, which have one, store the result all the same.
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        timezone="UTC",
        broker_connection_timeout=_SOCKET_TIMEOUT,
        broker_transport_options={
            "max_retries": 0,
            "socket_timeout": _SOCKET_TIMEOUT,
            "socket_connect_timeout": _SOCKET_TIMEOUT,
            "socket_keepalive": True,
            "retry_on_timeout": False,
        },
    )
    return application


def send(wake_ups: Sequence[Message], settings: Settings, *, budget: float = 1.5) -> int:
    """Send each wake-up, and return how many were not sent. Trouble with Redis is logged and never raised.

    After ``budget`` seconds, or a failure, the rest is not tried. A call takes at most 1.5 s more than its budget (a time
    limit met three times: sending, connecting again, sending again), whether Redis refuses, is frozen, or is full.
    """
    application = _application(settings.redis_url, os.getpid(), threading.get_ident())
    deadline = time.monotonic() + budget
    for sent, wake_up in enumerate(wake_ups):
        try:
            if time.monotonic() > deadline:
                raise OperationalError("the time for this batch is used up")
            _publish(application, wake_up)
        except (OperationalError, OSError) as error:
            failed = len(wake_ups) - sent
            log.warning("enqueue failed", extra={"code": "enqueue_failed", "reason": str(error), "not_sent": failed})
            return failed
    return 0


def _publish(application: Celery, wake_up: Message) -> Any:
    return application.send_task(
        wake_up.task_name,
        wake_up.arguments,
        task_id=wake_up.task_id,
        queue=wake_up.queue,
        # The workers declare the queues they consume; a list in Redis needs no declaration to be filled.
        declare=[],
        # Once more on a new connection: an idle one may have been closed meanwhile.
        retry=True,
        retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0},
    )


@lru_cache(maxsize=2)
def _client(redis_url: str, process_id: int) -> redis.Redis:
    # Here, because the handler does not measure; Celery too imports the client with the first message.
    import redis

    return redis.Redis.from_url(redis_url, socket_timeout=_MEASURE_TIMEOUT, socket_connect_timeout=_MEASURE_TIMEOUT)


def queue_lengths(settings: Settings) -> dict[str, int]:
    """Messages that wait in each queue; those that a worker has taken are not among them. One round trip.

    Raises:
        redis.RedisError: Redis is away or does not answer.
    """
    names = list(QUEUES.values())
    with _client(settings.redis_url, os.getpid()).pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.llen(name)
        return dict(zip(names, pipeline.execute(), strict=True))
