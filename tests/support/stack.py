"""The local stack as a user has it: the command line in a process of its own, and any other client through ``env``."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.local import child
from infra.local.parts import PARTS

ROOT = Path(__file__).parents[2]
LEX = [sys.executable, "-P", "-m", "infra.cli"]


def environment() -> dict[str, str]:
    """Of a user who has set nothing but how soon lost work is looked at again."""
    ours = ("LEX_INGEST_", "AWS_", "OPENAI_", "DATABASE_URL", "REDIS_URL", "BUCKET", "QUEUE_URL")
    soon = {"LEX_INGEST_TICK": "1", "LEX_INGEST_REQUEUE_AFTER": "5", "LEX_INGEST_LEASE": "10"}
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | soon | {"PYTHONPATH": str(ROOT)}


def lex(folder: Path, *arguments: str, expect: int = 0) -> str:
    """Run the command in the data folder's parent; its standard output."""
    command = [*LEX, arguments[0], "--data-dir", str(folder), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, env=environment(), timeout=100, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if expect == 0 else done.stderr


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def alive(folder: Path) -> list[str]:
    return [name for name in ("supervisord", *PARTS) if child.recorded(folder / "run", name)]


def statuses(folder: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in lex(folder, "status", "--json").splitlines()]
    return {row["key"]: row["status"] for row in rows}


def best(folder: Path, question: str) -> str:
    return str(json.loads(lex(folder, "search", question, "-k", "1", "--json").splitlines()[0])["key"])


def upload(folder: Path, **objects: str) -> None:
    """As any other client does it: a shell, the exports of ``env``, plain boto3."""
    code = "import boto3, json, sys; [boto3.client('s3').put_object(Bucket='documents', Key=k, Body=v) for k, v in json.loads(sys.argv[1]).items()]"  # fmt: skip  # noqa: E501 - one line of shell
    exports = shlex.join([*LEX, "env", "--data-dir", str(folder)])
    script = f'eval "$({exports})" && {shlex.join([sys.executable, "-c", code, json.dumps(objects)])}'
    subprocess.run(["/bin/sh", "-ec", script], env=environment(), cwd=folder.parent, check=True, timeout=60)


def lines(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """The objects that a command with ``--json`` prints."""
    return [json.loads(line) for line in lex(folder, *arguments, "--json").splitlines()]


# The command with longer time limits: this machine may be ten times slower than a user's, and then a sound part must not
# be taken for a frozen one.
PATIENT = """
import sys
from infra.cli import checks
from infra.local import health
checks.QUESTION, checks.ALL, health.ANSWER, health.ALL = 10.0, 100.0, 10.0, 100.0
from infra.cli.main import main
main()
"""


def patient(folder: Path, command: str) -> dict[str, dict[str, Any]]:
    """The objects that the command prints, by name."""
    done = subprocess.run(
        [sys.executable, "-c", PATIENT, command, "--json", "--data-dir", str(folder)],
        capture_output=True, text=True, env=environment(), timeout=110, check=False, cwd=folder.parent,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
