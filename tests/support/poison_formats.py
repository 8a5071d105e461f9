"""Formats for tests, which the sandbox is told of: files that harm whoever reads them, and files that take their time.

A file ``POISON <deed>`` does its deed; a file ``SLOW <seconds> <text>`` is read after so many seconds.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from worker.domain.text import Extraction
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.registry import Format

FORMATS = (
    Format("poison", "application/x-poison", __name__, magic=(b"POISON ",)),
    Format("slow", "text/x-slow", __name__, magic=(b"SLOW ",)),
)
FLOOD_BYTES = 100_000_000


def extract(path: Path, limits: Limits) -> Extraction:
    """Read the file; the text of a slow one begins a new paragraph at each empty line."""
    word, argument, *rest = path.read_text().split(" ", 2)
    if word == "POISON":
        _do(argument)
    time.sleep(float(argument))
    builder = BlockBuilder(limits)
    for paragraph in rest[0].split("\n\n"):
        builder.add(paragraph)
    return builder.finish("text/x-slow", "slow")


def _do(deed: str) -> None:
    match deed:
        case "kill-self":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill-server":
            os.kill(os.getppid(), signal.SIGKILL)
        case "memory-error":
            raise MemoryError
        case "memory":
            hoard = []
            while True:
                hoard.append(bytearray(10_000_000))
        case "loop":
            while True:
                pass
        case "flood":
            _flood()
    raise ValueError(deed)


def _flood() -> None:
    """Write into the pipe for the answer, past the code that would write it in order."""
    for number in range(3, 64):
        try:
            if str(Path(f"/proc/self/fd/{number}").readlink()).startswith("pipe:"):
                for _ in range(FLOOD_BYTES // 100_000):
                    os.write(number, b"x" * 100_000)
        except OSError:
            continue
