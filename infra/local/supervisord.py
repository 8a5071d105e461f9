"""Runs supervisord with logs that lose lines while the disk is full, and nothing else: ``python -P supervisord.py -c FILE``.

supervisord's own file handler raises where a line can't be written. Its main loop then ends, or stops to read the part whose
line it was, until that part's pipe is full and the part stands still.
"""

from __future__ import annotations

import io
from typing import Any

from supervisor import loggers, supervisord


class LossyFileHandler(loggers.RotatingFileHandler):  # type: ignore[misc]  # supervisor has no types
    """Drops what can't be written, and opens the file again once that is possible."""

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
    supervisord.main()


if __name__ == "__main__":
    main()
