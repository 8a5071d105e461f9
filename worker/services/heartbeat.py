"""Renew the lease of a document as long as its stage works on it."""

from __future__ import annotations

import os
import threading
import time
from functools import lru_cache
from queue import SimpleQueue

from sqlalchemy.exc import DBAPIError

from worker import telemetry
from worker.domain.errors import LeaseLost
from worker.objects import ObjectFacts
from worker.settings import Settings
from worker.store import leases
from worker.store.leases import Lease
from worker.store.session import statements

log = telemetry.get_logger(__name__)

# Seconds after which a lease is not renewed any more: longer than Celery lets a task run (worker.celery_config), so that a stage
# which hangs where no time limit reaches it, as in a pool of threads, does not keep its document for ever.
_LONGEST_HOLD = 35 * 60


class Heartbeat:
    """Renews a lease every third of its length, in a thread of its own, so that none waits for another's row.

    Most documents end before the first third has passed: the thread begins only then. ``check()`` raises what the last renewal
    met; the stage calls it between its steps. The fence in each writing transaction is what keeps the data right: this only saves
    work that is in vain. ``read`` is set by the stage once it has the object, so that ``status`` tells which one a failure was
    about.
    """

    def __init__(self, lease: Lease, settings: Settings) -> None:
        self._lease = lease
        self._settings = settings
        self._every = settings.lease / 3
        self._stop = threading.Event()
        self._lost: LeaseLost | None = None
        self.read: ObjectFacts | None = None
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Heartbeat:
        self._began = time.monotonic()
        _sleepers(os.getpid(), self._every).put(self)
        return self

    def __exit__(self, *_: object) -> None:
        with self._beginning:
            self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def check(self) -> None:
        if self._lost is not None:
            raise self._lost

    def begin_in_time(self) -> None:
        """Wait for the first third's end, and begin to renew unless the stage has ended."""
        time.sleep(max(0.0, self._began + self._every - time.monotonic()))
        with self._beginning:
            if not self._stop.is_set():
                thread = threading.Thread(target=self._run, name="lease-heartbeat", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            try:
                with statements(self._settings.database_url) as connection:
                    leases.renew(connection, self._lease, self._settings.lease)
            except LeaseLost as lost:
                self._lost = lost
                return
            except DBAPIError as error:
                # The database is away: the lease may still be ours when it is back.
                log.warning("lease not renewed", extra={"reason": type(error).__name__})
            if self._stop.wait(self._every) or time.monotonic() > self._began + _LONGEST_HOLD:
                return


@lru_cache(maxsize=16)
def _sleepers(process_id: int, seconds: float) -> SimpleQueue[Heartbeat]:
    """Heartbeats in the order in which they are to begin, all after so many seconds, and the thread that sees to it."""
    queue: SimpleQueue[Heartbeat] = SimpleQueue()

    def begin_each() -> None:
        while True:
            try:
                queue.get().begin_in_time()
            except RuntimeError as error:
                # No thread could be started. This lease may run out; the others must not for that.
                log.error("no heartbeat", extra={"reason": str(error)})

    threading.Thread(target=begin_each, name="lease-heartbeats", daemon=True).start()
    return queue
