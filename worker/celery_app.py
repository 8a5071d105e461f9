"""The Celery application of the workers: ``celery -A worker.celery_app worker``.

All queues are consumed by default; ``-Q lex.extraction`` gives a worker of one kind.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from celery import Celery, signals

from worker import process, telemetry
from worker.contract import CELERY_APP_NAME
from worker.dispatcher import DispatcherStep, DispatcherWatch
from worker.settings import SettingsError, get_settings
from worker.shutdown import ShutdownStep

log = telemetry.get_logger(__name__)

try:
    get_settings()
except SettingsError as error:
    # Without this, Celery would print a traceback at each restart.
    log.critical("the settings can't be used", extra={"code": "settings", "reason": str(error)})
    sys.exit(2)

app = Celery(CELERY_APP_NAME)
app.config_from_object("worker.celery_config")
app.steps["worker"].update({DispatcherStep, ShutdownStep})
app.steps["consumer"].add(DispatcherWatch)
# The package exports every task, so importing it finds each module below it.
app.autodiscover_tasks(["worker"], related_name="tasks")


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    telemetry.configure(get_settings().log_level, "celery", "kombu")


@signals.worker_init.connect
def _hide_secrets(**_: Any) -> None:
    # Before the pool is forked: its processes inherit it.
    process.hide_memory()


@signals.worker_init.connect
def _make_backend(**_: Any) -> None:
    # Before threads begin, which would each make one all the same. It connects when it is first used, in each process anew.
    app.backend  # noqa: B018 - looking at it makes it


@signals.worker_init.connect
def _spare_collector(**_: Any) -> None:
    # All modules are imported by now, and stay. Looking through them again and again was a tenth of what the embedding stage did;
    # and in a forked process each look would copy their pages.
    gc.collect()
    gc.freeze()


@signals.task_prerun.connect
def _log_start(task_id: str, task: Any, **_: Any) -> None:
    log.info("task started", extra={"task": task.name, "task_id": task_id})


@signals.task_postrun.connect
def _log_end(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    log.info("task ended", extra={"task": task.name, "task_id": task_id, "state": state})
