"""Runs supervisord with two changes: ``python -P supervisord.py -c FILE``.

1. Logs: if the disk is full, log lines are lost and nothing else fails. supervisord's own file handler raises if it can't write a
   line. Its main loop then ends, or no longer reads the part's output, and the part blocks as soon as its pipe is full.
2. Sessions: each part gets its own session. Linux divides the processors between sessions first (sched(7), "The autogroup
   feature"), so the model server can lower its own priority relative to all other processes.
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
    # setsid() also makes the part the leader of a new process group, and supervisord still stops the whole group.
    options.ServerOptions.setpgrp = lambda _: os.setsid()
    supervisord.main()


if __name__ == "__main__":
    main()
