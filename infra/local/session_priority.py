"""Sets the priority of this process's session relative to other sessions (sched(7), "The autogroup feature").

Linux divides the processors between sessions first, and the nice value of a thread acts only within its session. Without a lower
priority of the whole session, the model would keep half of the processors while a search and other busy programs share the rest.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
# Nice values of the session: LOW while the model embeds documents, USUAL otherwise (the kernel's value for a new session).
LOW, USUAL = 10, 0
# A step that got less than the share STARVED of one processor was starved. The session then keeps the usual priority for RELIEF
# seconds, because among many busy sessions the low priority would nearly stop the model.
STARVED, RELIEF = 0.05, 60.0


class SessionPriority:
    """Gives the session the low priority while documents are read, and the usual one while a query waits or after starvation."""

    def __init__(self, file: Path = AUTOGROUP) -> None:
        """Open the autogroup file. If the kernel has no autogroups, the file does not exist and ``choose`` has no effect."""
        self._nice, self._usual_until = USUAL, 0.0
        try:
            self._file = os.open(file, os.O_WRONLY)
        except OSError:
            self._file = -1

    def choose(self, *, query_waits: bool) -> None:
        """Set the priority for the next step."""
        nice = USUAL if query_waits or time.monotonic() < self._usual_until else LOW
        if self._file >= 0 and nice != self._nice:
            with contextlib.suppress(OSError):  # Linux refuses a user's second change within 0.1 s; the next step tries again
                os.write(self._file, f"{nice}\n".encode())
                self._nice = nice

    def record_step(self, processor_s: float, wall_s: float) -> None:
        """Record how much processor time a step of one thread got, and how long the step took, in seconds."""
        if processor_s < STARVED * wall_s:
            self._usual_until = time.monotonic() + RELIEF
