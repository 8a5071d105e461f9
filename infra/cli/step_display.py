"""What a long command does now, on standard error: a person, or the log of a pipeline, is never left without a line for long."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

# Seconds of silence after which a line says what is waited for. Two are promised.
SILENCE = 1.4


class StepDisplay:
    """A context. ``done`` prints a line that stays; ``wait`` names what the lines say that come while nothing is done.

    At a terminal these are one line that is written over.
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
        """Print the line."""
        with self._lock:
            self._clear()
            self._say(f"  {line}\n")

    def wait(self, what: str) -> None:
        """From now on it waits for this."""
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
