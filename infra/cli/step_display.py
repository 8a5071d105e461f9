"""Shows on standard error what a long command does now, so that it is never silent for more than two seconds.

``progress`` counts embedded chunks; this module knows nothing about documents.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

# Seconds without output after which a line names the current step. The promise is two.
SILENCE = 1.4


class StepDisplay:
    """Context manager that prints steps: ``done`` prints a finished step, ``wait`` sets the current one.

    While the context is open, a thread prints the current step and its seconds: on a terminal as one line that is overwritten,
    elsewhere as a new line each time.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._what = ""
        self._began = self._said = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="steps", daemon=True)

    def __enter__(self) -> StepDisplay:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        with self._lock:
            self._clear()

    def done(self, line: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self._clear()
            self._say(f"  {line}\n")

    def wait(self, what: str) -> None:
        """Set what the command waits for from now on, as a noun: ``the parts to end``."""
        with self._lock:
            self._what, self._began = what, time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            with self._lock:
                now = time.monotonic()
                if self._what and now - self._said >= (1.0 if self._terminal else SILENCE):
                    self._clear()
                    self._say(f"  … {self._what}, {now - self._began:.0f} s{'' if self._terminal else chr(10)}")

    def _clear(self) -> None:
        if self._terminal:
            self._say("\r\x1b[K")

    def _say(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
        self._said = time.monotonic()
