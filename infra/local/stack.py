"""The local stack: everything that AWS and containers would run, as supervised processes of one data folder.

``up`` is idempotent and survives anything that ended an earlier run; ``D`` keeps the bucket, the queue, the documents and
the index. Several stacks live side by side, each in its folder.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import time
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.local import parts as catalogue
from infra.local import postgres, supervision
from infra.local.folder import Folder, Memory, StackError
from infra.local.parts import PARTS, SERVICES

__all__ = ["PARTS", "Part", "Stack", "StackError", "down", "find", "up"]

# Seconds that a part may take to answer: the model is read and checked, a cluster may have to recover.
START = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """``state`` is supervisord's word: RUNNING, STARTING, STOPPED, EXITED …; ``pid`` is None unless it runs."""

    name: str
    state: str
    pid: int | None
    uptime_s: int


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack. ``environment`` is what a client of it needs; ``supervisor`` is set where ``up`` stays in front."""

    data_dir: Path
    environment: dict[str, str]
    part_names: tuple[str, ...]
    supervisor: subprocess.Popen[bytes] | None = None

    def parts(self) -> list[Part]:
        """Each part as the supervisor sees it now.

        Raises:
            StackError: the supervisor does not answer.
        """
        try:
            infos = supervision.ask(Folder(self.data_dir).load(), "getAllProcessInfo")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise StackError(f"The supervisor of {self.data_dir} does not answer ({error}): run `lex-ingest down`.") from None
        by_name = {info["name"]: info for info in infos}
        return [_part(by_name[name]) for name in self.part_names if name in by_name]

    def is_running(self) -> bool:
        return supervision.is_running(Folder(self.data_dir))


def _part(info: dict[str, object]) -> Part:
    pid, now, start = (int(str(info[name])) for name in ("pid", "now", "start"))
    return Part(str(info["name"]), str(info["statename"]), pid or None, max(0, now - start) if pid else 0)


def find(data_dir: Path) -> Stack | None:
    """The running stack of that folder, once all of its parts have answered; else None."""
    folder = Folder(data_dir.absolute())
    if not (folder.ready.exists() and supervision.is_running(folder)):
        return None
    memory = folder.load()
    return Stack(folder.path, memory.environment, tuple(memory.parts))


def down(data_dir: Path) -> bool:
    """Stop every process of the folder; whether there was one. What the folder keeps stays."""
    folder = Folder(data_dir.absolute())
    if not folder.run.is_dir():
        return False
    with folder.lock():
        folder.ready.unlink(missing_ok=True)
        return supervision.stop(folder, list(PARTS))


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
    folder = Folder(data_dir.absolute())
    folder.create()
    user = catalogue.of_user(os.environ)
    names = catalogue.wanted(parts, user)
    with folder.lock():
        running = find(folder.path)
        if running:
            if missing := set(names) - set(running.part_names):
                lacks = ", ".join(sorted(missing))
                raise StackError(f"A stack runs in {folder.path} without {lacks}: run `lex-ingest down` first.")
            on_progress(f"already running in {folder.path}")
            return running
        if supervision.stop(folder, list(PARTS)):
            on_progress("ended what an interrupted run had left")
        supervisor = None
        try:
            memory = folder.load()
            if "postgres" in names:
                on_progress("preparing PostgreSQL")
                memory.secret("postgres")
                folder.save(memory)  # before the cluster knows the password
                postgres.prepare(folder, memory)
            processes = catalogue.processes(folder, memory, names, user)
            supervisor = supervision.start(folder, memory, processes, detach)
            memory.parts = list(names)
            folder.save(memory)
            _start(folder, memory, [name for name in names if name in SERVICES], on_progress)
            _prepare(folder, memory, "worker" in names if migrate_database is None else migrate_database, on_progress)
            _start(folder, memory, [name for name in names if name not in SERVICES], on_progress)
        except BaseException:  # Ctrl-C included: nothing may be left behind
            supervision.stop(folder, list(PARTS), supervisor)
            raise
        folder.ready.touch()
        return Stack(folder.path, memory.environment, names, supervisor)


def _start(folder: Folder, memory: Memory, names: list[str], on_progress: Callable[[str], None]) -> None:
    """Start the parts together and wait for each."""
    started = time.monotonic()
    for name in names:
        supervision.ask(memory, "startProcess", name, False)
    for name in names:
        supervision.wait_for(
            f"the part {name!r}",
            lambda name=name: catalogue.answers(name, folder, memory),  # type: ignore[misc]  # mypy can't infer a default's type
            START,
            lambda name=name: f"The end of {folder.log / name}.log:\n{folder.log_tail(name)}",  # type: ignore[misc]  # the same
        )
        on_progress(f"{name} answers after {time.monotonic() - started:.1f} s")


def _prepare(folder: Folder, memory: Memory, migrate_database: bool, on_progress: Callable[[str], None]) -> None:
    """The database and its tables, the bucket and its queues; running it again changes nothing."""
    if "postgres" in memory.parts:
        postgres.create_database(memory)
        if migrate_database:
            from worker.services.migration import migrate
            from worker.settings import Settings

            migrate(Settings.from_environment(memory.environment))
            on_progress("the database is migrated")
    if "aws" in memory.parts:
        from infra.local.resources import ensure

        ensure(memory.environment)
        on_progress("the bucket and its queue are there")
