"""Celery workers as processes, for tests that stop, freeze or kill them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

ROOT = Path(__file__).parents[2]


def start_worker(
    log: Path, name: str = "worker", concurrency: int = 2, extra: tuple[str, ...] = (), **environment: str
) -> subprocess.Popen[bytes]:
    """Start a worker named ``name`` on the services of ``os.environ``; ``environment`` overrides it, and ``extra`` are
    more arguments.

    Returns at once; ``wait_for_worker`` waits until it consumes.
    """
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "--loglevel", "INFO"]
    # No neighbours are looked for: that takes a second.
    command += ["--without-mingle", "--without-gossip"]
    command += ["--concurrency", str(concurrency), "--hostname", f"{name}@localhost", *extra]
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **environment})


def wait_for_worker(name: str = "worker", seconds: float = 30) -> None:
    """Wait until the worker answers a ping."""
    from worker.celery_app import app

    deadline = time.monotonic() + seconds
    while not app.control.ping(timeout=0.5, destination=[f"{name}@localhost"]):
        assert time.monotonic() < deadline, f"{name} does not answer"


def end(process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """End it as a deployment does: SIGTERM, and SIGKILL after ``seconds``."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def running_worker(
    log: Path, name: str = "worker", concurrency: int = 2, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker for the length of a block."""
    process = start_worker(log, name, concurrency, **environment)
    try:
        wait_for_worker(name)
        yield process
    finally:
        end(process)


def children_of(pid: int) -> dict[int, str]:
    """Pid -> command line of the direct children."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            try:
                found[int(child)] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
    return found


def pool_of(worker: subprocess.Popen[bytes]) -> list[int]:
    """The pids of the worker's pool processes; its dispatcher is not among them."""
    return sorted(pid for pid, command in children_of(worker.pid).items() if "worker.dispatcher" not in command)


def scalar(database_url: str, statement: str, *values: object) -> object:
    """The first column of the first row, or None."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(statement.encode(), values).fetchone()
        return None if row is None else row[0]
