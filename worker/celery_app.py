"""The Celery application of the workers: ``celery -A worker.celery_app worker``.

Messages are acknowledged early: a message is a wake-up call, and the row is the record of the work (README, "Why a
document can't be lost"). Queues are consumed all by default; ``-Q lex.extraction`` gives a worker of one kind.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, signals
from kombu import Queue

from worker import telemetry
from worker.contract import CELERY_APP_NAME, QUEUES
from worker.dispatcher import DispatcherStep
from worker.producer import tls_options
from worker.settings import get_settings

log = telemetry.get_logger(__name__)

HARD_TIME_LIMIT = 30 * 60
SOFT_TIME_LIMIT = 25 * 60
# Redis gives an unacknowledged message out again after this; above the hard limit, no running task is repeated.
VISIBILITY_TIMEOUT = 60 * 60

_REDIS_SOCKET = {"socket_timeout": 10, "socket_connect_timeout": 5, "socket_keepalive": True, "retry_on_timeout": True}


def create_app() -> Celery:
    """Build the application from the settings of this process."""
    settings = get_settings()
    application = Celery(CELERY_APP_NAME)
    application.conf.update(
        broker_url=settings.redis_url or None,
        result_backend=settings.redis_url or None,
        broker_use_ssl=tls_options(settings.redis_url),
        redis_backend_use_ssl=tls_options(settings.redis_url),
        task_queues=[Queue(name) for name in QUEUES.values()],
        task_default_queue=next(iter(QUEUES.values())),
        task_create_missing_queues=False,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        timezone="UTC",
        task_track_started=True,
        task_time_limit=HARD_TIME_LIMIT,
        task_soft_time_limit=SOFT_TIME_LIMIT,
        worker_prefetch_multiplier=1,
        worker_max_tasks_per_child=1000,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT, "health_check_interval": 25, **_REDIS_SOCKET},
        result_backend_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT},
        result_expires=24 * 60 * 60,
        redis_socket_timeout=_REDIS_SOCKET["socket_timeout"],
        redis_socket_connect_timeout=_REDIS_SOCKET["socket_connect_timeout"],
        redis_socket_keepalive=True,
        redis_retry_on_timeout=True,
        redis_backend_health_check_interval=25,
    )
    application.steps["worker"].add(DispatcherStep)
    # The package itself exports every task, so each module below it is found by importing it.
    application.autodiscover_tasks(["worker"], related_name="tasks")
    return application


app = create_app()


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    telemetry.configure(get_settings().log_level, "celery", "kombu")


@signals.task_prerun.connect
def _log_start(task_id: str, task: Any, **_: Any) -> None:
    log.info("task started", extra={"task": task.name, "task_id": task_id})


@signals.task_postrun.connect
def _log_end(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    log.info("task ended", extra={"task": task.name, "task_id": task_id, "state": state})
