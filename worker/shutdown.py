"""SIGTERM: documents in work get ``shutdown_grace`` seconds, then they are handed back, and nobody's attempt is spent.

Celery's own warm shutdown waits for as long as a task takes; whoever sent the signal (ECS, Kubernetes, systemd) kills the
worker before that, and the document would wait for its lease to run out. So a pool process that is told to end hands its
document back first, whoever tells it: this module once the time is up, Celery in a cold shutdown, or a signal to all.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from celery import bootsteps, signals

from worker import telemetry
from worker.services import holding
from worker.settings import get_settings

log = telemetry.get_logger(__name__)

# Seconds that a process which is told to end, and has no document to hand back, gives its task; and then the pool, to take the
# result.
_LAST_WORDS, _TELLING = 2.0, 0.1
_between_tasks = threading.Event()
_between_tasks.set()


class ShutdownStep(bootsteps.StartStopStep):
    """Ends the pool's processes once the grace is over."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._worker = parent
        # Celery keeps weak references to receivers; this step lives as long as the worker.
        signals.worker_shutting_down.connect(self._begin)

    def _begin(self, **_: Any) -> None:
        timer = threading.Timer(get_settings().shutdown_grace, self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        try:
            pids = (self._worker.pool.info or {}).get("processes", [])
        except AttributeError:
            return  # the pool has come to its end by itself meanwhile, and has taken its list of processes away
        log.info("handing back what is not finished", extra={"pool": pids})
        for pid in pids:
            if pid == os.getpid():
                continue  # the solo pool works in this very process
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        # So does a pool of threads.
        in_hand, _ = holding.hand_back_all()
        if in_hand:
            os._exit(0)


@signals.worker_process_init.connect
def _in_a_pool_process(**_: Any) -> None:
    # At each task, because billiard installs its own handler after this signal, and that one interrupts the task instead.
    signals.task_prerun.connect(_hand_back_on_sigterm)
    signals.task_postrun.connect(_task_ended)


def _hand_back_on_sigterm(**_: Any) -> None:
    _between_tasks.clear()
    signal.signal(signal.SIGTERM, _terminated)


def _task_ended(**_: Any) -> None:
    _between_tasks.set()


def _terminated(_signal: int, _frame: Any) -> None:
    # In a thread: the signal may have come in the middle of a statement, and whatever that holds is free again only when it
    # goes on.
    threading.Thread(target=_hand_back_and_exit, name="hand-back").start()


def _hand_back_and_exit() -> None:
    try:
        _, handed_back = holding.hand_back_all()
        if not handed_back:
            # The stage has just ended: what is left of its task is the wake-up for the next one, and telling the worker.
            _between_tasks.wait(_LAST_WORDS)
            time.sleep(_TELLING)
    finally:
        # A task whose document was handed back may write nothing more; there is nothing to wait for.
        os._exit(0)
