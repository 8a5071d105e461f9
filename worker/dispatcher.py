"""The dispatcher inside a worker: a child process of its main process that ticks, and is started again when it dies.

A process and not a thread: the main process forks its pool at any time, and a fork copies whatever locks a thread holds
at that moment. It imports neither parsers nor the provider's client.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import psycopg
import redis
from celery import bootsteps

from worker import process, telemetry
from worker.services.dispatch import tick
from worker.services.housekeeping import call_fillers, tidy_if_due
from worker.settings import Settings, get_settings
from worker.store import fill_calls, vector_index
from worker.store.driver import connect

log = telemetry.get_logger(__name__)

_CHECK_EVERY = 1.0
_INDEX_EVERY = 30.0


class _Child:
    """The dispatcher process of this worker."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Start it where it does not run. Called by a timer, so it must not raise."""
        if self._process is not None and self._process.poll() is None:
            return
        try:
            self._process = subprocess.Popen([sys.executable, "-m", "worker.dispatcher", str(os.getpid())])
        except OSError as error:
            log.error("dispatcher not started", extra={"reason": type(error).__name__})

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


_child = _Child()


class DispatcherStep(bootsteps.StartStopStep):
    """Ends the dispatcher with the worker."""

    def stop(self, parent: Any) -> None:
        _child.stop()

    def terminate(self, parent: Any) -> None:
        _child.stop()


class DispatcherWatch(bootsteps.StartStopStep):
    """Keeps the dispatcher running. A step of the consumer: a lost broker connection clears every timer of the worker
    (celery/worker/loops.py), and only the consumer's steps are started again after it."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        _child.ensure()
        parent.timer.call_repeatedly(_CHECK_EVERY, _child.ensure)


def build_indexes(settings: Settings) -> None:
    """Look now and then whether vectors want an index, and build it: for minutes, and so beside the ticks."""
    while True:
        time.sleep(_INDEX_EVERY)
        try:
            with connect(settings.database_url, "lex-ingest-index") as connection:
                connection.autocommit = True
                # Of one that is filled, once that is through: `model backfill` may have been left to the background.
                for profile in (None, *fill_calls.whole(connection)):
                    for built in vector_index.build_missing(connection, settings.hnsw_m, settings.hnsw_ef_construction, profile):
                        log.info("index built", extra={"profile": built.profile_id, "ruin": built.ruin})
        except psycopg.Error as error:
            log.warning("no index built", extra={"reason": type(error).__name__})


def run(settings: Settings, parent: int) -> None:
    """Tick until the process is ended. Whatever part is away, the next tick tries again."""
    threading.Thread(target=build_indexes, args=(settings,), name="indexes", daemon=True).start()
    connection: psycopg.Connection[Any] | None = None
    while os.getppid() == parent:
        began = time.monotonic()
        try:
            if connection is None or connection.closed:
                connection = connect(settings.database_url, "lex-ingest-dispatcher")
            try:
                result = tick(connection, settings)
            finally:
                tidy_if_due(connection, settings)  # needs no Redis
            call_fillers(connection, settings)
            if result.woken or result.lost_leases or result.not_sent:
                log.info(
                    "tick",
                    extra={"woken": result.woken, "lost_leases": result.lost_leases, "not_sent": result.not_sent},
                )
        except psycopg.errors.UndefinedTable:
            log.warning("tick without tables: run `lex-ingest migrate`")
        except psycopg.Error as error:
            log.warning("tick without PostgreSQL", extra={"reason": type(error).__name__})
            if connection is not None:
                connection.close()
        except redis.RedisError as error:
            log.warning("tick without Redis", extra={"reason": type(error).__name__})
        # To a schedule: the promise of when lost work goes on counts the tick itself too.
        time.sleep(max(settings.tick / 10, began + settings.tick - time.monotonic()))


if __name__ == "__main__":
    telemetry.configure(get_settings().log_level)
    process.end_with_parent(int(sys.argv[1]), signal.SIGTERM)
    process.hide_memory()
    run(get_settings().require("database_url", "redis_url"), int(sys.argv[1]))
