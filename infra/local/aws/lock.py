"""The lock that lets one request at a time into moto, which is not thread-safe.

No request waits for ever: a request that does not get the lock in time is answered 503, which clients retry, and a request
that keeps it for too long ends the process with all stacks of its threads in the log. The supervisor then starts it again
from the file, which holds every answered request.
"""

from __future__ import annotations

import contextlib
import faulthandler
import threading
from collections.abc import Iterator

from infra.local.aws.errors import ApiError

# Seconds that a request waits for the lock. botocore waits 60 s for an answer, so the 503 comes well before.
WAIT = 30.0
# Seconds that a request may hold the lock. The longest request writes one object of 900 MB to the file, on a busy machine.
HOLD = 120.0


class RequestLock:
    """``wait``: seconds until a request is refused; ``hold``: seconds after which a request is taken to hang."""

    def __init__(self, wait: float = WAIT, hold: float = HOLD) -> None:
        self._condition, self._wait, self._hold = threading.Condition(threading.Lock()), wait, hold

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            ApiError: other requests held the lock for ``wait`` seconds.
        """
        if not self._condition.acquire(timeout=self._wait):
            raise ApiError(503, "SlowDown", f"Other requests kept the local S3 and SQS busy for {self._wait:g} s: try again.")
        try:
            self._watch()
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._condition.release()

    def changed(self) -> None:
        """Wake the requests that wait for a change. The caller holds the lock."""
        self._condition.notify_all()

    def wait_for_change(self, seconds: float) -> None:
        """Give the lock up until something changes or the time is over. The caller holds the lock."""
        faulthandler.cancel_dump_traceback_later()
        self._condition.wait(seconds)
        self._watch()

    def _watch(self) -> None:
        # faulthandler's thread runs without the interpreter, so it also ends a process that is stuck in a regular expression.
        faulthandler.dump_traceback_later(self._hold, exit=True)
