"""The ingest function as Lambda runs it: a process of its own, which takes one event after another.

Run as a program it reads an event a line, and answers ``{"answer", "seconds"}`` a line; ``seconds`` is what the invocation took,
without the imports, which Lambda counts as the function's start.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.events import failed

ROOT = Path(__file__).parents[2]
# Seconds: the function's own in template.yaml, and what its imports may take on a busy machine.
TIMEOUT = 30.0
START = 15.0


class Function:
    """One instance of the function. ``environment`` overrides that of this process."""

    def __init__(self, log: Path, **environment: str) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.function"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, **environment},
            )

    def __enter__(self) -> Function:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def invoke(self, event: dict[str, Any]) -> tuple[set[str], float] | None:
        """The ids of the messages that it reports failed, and the seconds that it took; None where Lambda had ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(event).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], START + TIMEOUT)
        if not ready:
            return None
        reply = json.loads(self._process.stdout.readline())
        return (failed(reply["answer"]), float(reply["seconds"])) if reply["seconds"] < TIMEOUT else None


def main() -> None:
    """Answer each event."""
    from handlers.s3_events import lambda_handler

    answers = os.fdopen(os.dup(1), "w")
    # The function's metrics go to the log: standard output is for the answers.
    os.dup2(2, 1)
    for line in sys.stdin:
        event = json.loads(line)
        begun = time.monotonic()
        answer = lambda_handler(event, None)
        answers.write(json.dumps({"answer": answer, "seconds": time.monotonic() - begun}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
