"""The local stack: everything that AWS and containers would run, as supervised processes of one data folder.

``up`` is idempotent and survives anything that ended an earlier run; ``D`` keeps the bucket, the queue, the documents and
the index. Several stacks live side by side, each in its folder.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.local import child, postgres, supervision
from infra.local import parts as catalogue
from infra.local.folder import Folder, StackError, create
from infra.local.parts import PARTS
from infra.local.supervision import Process

__all__ = ["PARTS", "Part", "Stack", "StackError", "down", "find", "up"]

# Seconds that a part may take to answer: the model is read and checked, a cluster may have to recover.
START = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """``state`` is RUNNING, or RESTARTING where its process has ended; ``pid`` is None unless it runs."""

    name: str
    state: str
    pid: int | None
    uptime_s: int


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack. ``environment`` is what a client of it needs; ``supervisor`` is set where this ``up`` started it."""

    data_dir: Path
    environment: dict[str, str]
    part_names: tuple[str, ...]
    supervisor: subprocess.Popen[bytes] | None = None

    def parts(self) -> list[Part]:
        """Each part as it is now."""
        return [self._part(name) for name in self.part_names]

    def _part(self, name: str) -> Part:
        run = self.data_dir / "run"
        pid = child.recorded(run, name)
        if pid is None:
            return Part(name, "RESTARTING", None, 0)
        return Part(name, "RUNNING", pid, int(max(0.0, time.time() - (run / f"{name}.pid").stat().st_mtime)))

    def is_running(self) -> bool:
        return supervision.is_running(Folder.load(self.data_dir))


def find(data_dir: Path) -> Stack | None:
    """The running stack of that folder, once all of its parts have answered; else None."""
    folder = Folder.load(data_dir)
    if not (folder.parts and supervision.is_running(folder)):
        return None
    return Stack(folder.path, folder.environment, tuple(folder.parts))


def down(data_dir: Path) -> bool:
    """Stop every process of the folder; whether there was one. What the folder keeps stays."""
    path = data_dir.absolute()
    if not (path / "run").is_dir():
        return False
    with Folder.locked(path) as folder:
        return _stop(folder)


def _stop(folder: Folder) -> bool:
    folder.parts = []
    folder.save()
    return supervision.stop(folder)


def up(
    data_dir: Path,
    *,
    parts: tuple[str, ...] = PARTS,
    detach: bool = True,
    migrate_database: bool | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Stack:
    """Start the parts and return when each answers; a stack that runs already is returned as it is.

    ``migrate_database``: None means where a worker is among the parts. Not detached, all ends with this process.

    Raises:
        StackError: a part can't start, the folder can't be used, or the running stack lacks one of the parts.
    """
    path = data_dir.absolute()
    create(path)
    user = catalogue.of_user(os.environ)
    with Folder.locked(path) as folder:
        names = catalogue.wanted(parts, user, folder)
        if running := find(path):
            if missing := set(names) - set(running.part_names):
                lacks = ", ".join(sorted(missing))
                raise StackError(f"A stack runs in {path} without {lacks}: run `lex-ingest down` first.")
            on_progress(f"already running in {path}")
            return running
        if _stop(folder):
            on_progress("ended what an interrupted run had left")
        supervisor = None
        try:
            if "postgres" in names:
                on_progress("preparing PostgreSQL")
                postgres.prepare(folder)
            groups = catalogue.processes(folder, names, user)
            supervisor = supervision.start(folder, groups, detach)
            _wait_for(folder, groups["services"], supervisor, on_progress)
            _prepare(folder, names, "worker" in names if migrate_database is None else migrate_database, on_progress)
            (folder.run / supervision.PREPARED).touch()
            _wait_for(folder, groups["clients"], supervisor, on_progress)
            folder.parts = list(names)
            folder.save()
        except BaseException:  # Ctrl-C included: nothing may be left behind
            _stop(folder)
            if supervisor is not None:
                supervisor.wait()
            raise
        return Stack(path, folder.environment, names, supervisor)


def _wait_for(
    folder: Folder, processes: list[Process], supervisor: subprocess.Popen[bytes], on_progress: Callable[[str], None]
) -> None:
    started = time.monotonic()
    for name in [process.name for process in processes]:
        reason = ""
        while True:
            if supervisor.poll() is not None:
                raise StackError(f"The supervisor ended.{folder.log_tail(child.SUPERVISOR)}")
            try:
                if catalogue.answers(folder, name):
                    break
            except Exception as error:  # noqa: BLE001 - drivers differ in what they raise while nobody listens
                reason = f" {type(error).__name__}: {error}."
            if time.monotonic() > started + START:
                raise StackError(f"The part {name!r} did not answer within {START:.0f} s.{reason}{folder.log_tail(name)}")
            time.sleep(0.05)
        on_progress(f"{name} answers after {time.monotonic() - started:.1f} s")


def _prepare(folder: Folder, names: tuple[str, ...], migrate_database: bool, on_progress: Callable[[str], None]) -> None:
    """The database and its tables, the bucket and its queues; running it again changes nothing."""
    if "postgres" in names:
        postgres.create_database(folder)
        if migrate_database:
            from worker.services.migration import migrate
            from worker.settings import Settings

            migrate(Settings.from_environment(folder.environment))
            on_progress("the database is migrated")
    if "aws" in names:
        from infra.local.resources import ensure

        ensure(folder.environment)
        on_progress("the bucket and its queue are there")
