"""Runs supervisord with two changes: ``python -P supervisord.py -c FILE``.

Its logs only lose lines while the disk is full, and each part has a session of its own, since Linux shares the processors between
sessions first (sched(7), "The autogroup feature"): the model, which may work for minutes, can step back for all other processes.

supervisord's own file handler raises if a line can't be written. Its main loop then ends, or no longer reads the output of that
part, which blocks as soon as its pipe is full.
"""

from __future__ import annotations

import io
import os
from typing import Any

from supervisor import loggers, options, supervisord


class LossyFileHandler(loggers.RotatingFileHandler):  # type: ignore[misc]  # supervisor has no types
    """Drops lines that can't be written, and opens the file again as soon as that is possible."""

    stream: Any

    def __init__(self, filename: str, mode: str = "ab", maxBytes: int = 0, backupCount: int = 0) -> None:  # noqa: N803 - supervisord's names
        try:
            super().__init__(filename, mode, maxBytes, backupCount)
        except OSError:  # there is no room for a new file
            loggers.Handler.__init__(self, io.BytesIO())
            self.stream.close()
            self.baseFilename, self.mode, self.maxBytes, self.backupCount = filename, "ab", maxBytes, backupCount

    def emit(self, record: Any) -> None:
        try:
            if self.stream.closed:
                self.stream = open(self.baseFilename, "ab")  # noqa: PTH123, SIM115 - as supervisord opens it, for as long as it runs
            super().emit(record)
        except OSError:
            pass  # the line is lost; the next one tries again

    def handleError(self) -> None:  # noqa: N802 - supervisord's name
        """Say nothing: standard error is a file on the same disk."""


def main() -> None:
    loggers.RotatingFileHandler = LossyFileHandler
    # A session's leader leads a process group too, which supervisord ends as a whole.
    options.ServerOptions.setpgrp = lambda _: os.setsid()
    supervisord.main()


if __name__ == "__main__":
    main()
