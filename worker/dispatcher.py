"""The dispatcher inside a worker: a child process of its main process that ticks, and is started again when it dies.

A process and not a thread: the main process forks its pool at any time, and a fork copies whatever locks a thread holds
at that moment. It imports neither parsers nor the provider's client.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import psycopg
import redis
from celery import bootsteps

from worker import process, telemetry
from worker.services.dispatch import tick
from worker.settings import Settings, get_settings

log = telemetry.get_logger(__name__)

_CHECK_EVERY = 1.0


class DispatcherStep(bootsteps.StartStopStep):
    """Keeps one dispatcher process running for as long as this worker runs."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, parent: Any) -> None:
        self._ensure()
        parent.timer.call_repeatedly(_CHECK_EVERY, self._ensure)

    def stop(self, parent: Any) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def terminate(self, parent: Any) -> None:
        self.stop(parent)

    def _ensure(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen([sys.executable, "-m", "worker.dispatcher", str(os.getpid())])


def run(settings: Settings, parent: int) -> None:
    """Tick until the process is ended. Whatever part is away, the next tick tries again."""
    connection: psycopg.Connection[Any] | None = None
    while os.getppid() == parent:
        try:
            if connection is None or connection.closed:
                connection = psycopg.connect(settings.database_url, connect_timeout=5, application_name="lex-ingest-dispatcher")
            result = tick(connection, settings)
            if result.woken or result.lost_leases or result.not_sent:
                log.info(
                    "tick",
                    extra={"woken": result.woken, "lost_leases": result.lost_leases, "not_sent": result.not_sent},
                )
        except psycopg.OperationalError as error:
            log.warning("tick without PostgreSQL", extra={"reason": type(error).__name__})
            connection = None
        except psycopg.errors.UndefinedTable:
            log.warning("tick without tables: run `lex-ingest migrate`")
            connection = None
        except redis.RedisError as error:
            log.warning("tick without Redis", extra={"reason": type(error).__name__})
        time.sleep(settings.tick)


if __name__ == "__main__":
    telemetry.configure(get_settings().log_level)
    process.end_with_parent(int(sys.argv[1]), signal.SIGTERM)
    process.hide_memory()
    run(get_settings().require("database_url", "redis_url"), int(sys.argv[1]))
