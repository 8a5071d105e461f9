"""Workers that a fault test freezes or ends: which documents they hold, and their whole trees of processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from tests.conftest import wait_until
from tests.support.workers import ROOT, children_of, end
from worker.contract import Stage


@dataclass
class Victim:
    """A worker process with the formats of tests, known by what its log tells."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def is_ready(self) -> bool:
        """Whether it consumes. Its log tells so, and many that start together are not kept busy with pings."""
        return any(str(line.get("message", "")).endswith("@localhost ready.") for line in self._lines())

    def failures(self) -> Counter[UUID]:
        """How often each document's stage failed here."""
        return Counter(UUID(line["document_id"]) for line in self._lines() if line.get("message") == "stage failed")

    def holds(self) -> dict[UUID, Stage]:
        """The documents whose extraction or embedding it has begun and not ended."""
        running: dict[str, None] = {}
        for line in self._lines():
            if line.get("message") == "task started":
                running[line["task_id"]] = None
            elif line.get("message") == "task ended":
                running.pop(line["task_id"], None)
        return {document: stage for document, stage in map(_parse, running) if stage is not Stage.PROCESS}

    def _lines(self) -> Iterator[dict[str, str]]:
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    yield value

    def tree(self) -> list[int]:
        """The main process, then all its descendants."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                found += children_of(pid)
        return found

    def send(self, number: int) -> None:
        """Send the signal to the whole tree."""
        for pid in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def start_victim(log: Path, name: str, concurrency: int, **environment: str) -> Victim:
    """Start a worker on the services of ``os.environ``; ``environment`` overrides it. Returns at once."""
    command = [sys.executable, "-m", "celery", "-A", "tests.support.poison_app", "worker", "--loglevel", "INFO"]
    command += ["--concurrency", str(concurrency), "--hostname", f"{name}@localhost"]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **environment})
    return Victim(name, process, log)


@contextmanager
def victims(folder: Path, names: list[str], concurrency: int, **environment: str) -> Iterator[list[Victim]]:
    """Workers for the length of a block, all consuming when it begins."""
    found = [start_victim(folder / f"{name}.log", name, concurrency, **environment) for name in names]
    try:
        for victim in found:
            wait_until(lambda victim=victim: victim.is_ready(), 90, f"{victim.name} consumes")
        yield found
    finally:
        for victim in found:
            victim.send(signal.SIGCONT)
            victim.process.terminate()
        for victim in found:
            end(victim.process)


def _parse(task_id: str) -> tuple[UUID, Stage]:
    document, _, stage = task_id.split(":")
    return UUID(document), Stage(stage)
