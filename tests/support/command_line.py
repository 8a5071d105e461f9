"""The command line in a process of its own, with the environment of the tests' services, where no stack is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-P", "-m", "infra.cli"]


def variables(changes: Mapping[str, str | None]) -> dict[str, str]:
    """The tests' environment with these changes; None takes a variable out."""
    whole = {**os.environ, "PYTHONPATH": str(ROOT), **changes}
    return {name: value for name, value in whole.items() if value is not None}


def run(
    folder: Path, arguments: Sequence[str | bytes], changes: Mapping[str, str | None] | None = None, expect: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run ``lex-ingest`` in the folder; its end, with what it printed."""
    done = subprocess.run(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=variables(changes or {}),
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
        timeout=90,
        check=False,
    )
    assert expect is None or done.returncode == expect, done.stdout + done.stderr
    return done


def mistake(
    folder: Path, arguments: Sequence[str | bytes], code: int, words: str, changes: Mapping[str, str | None] | None = None
) -> str:
    """Run what must go wrong: one line on standard error with these words, this exit code, no traceback, and no other output."""
    done = run(folder, arguments, changes, expect=None)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    return done.stderr
