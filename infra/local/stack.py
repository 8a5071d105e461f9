"""The local stack: everything that AWS and containers would run, as supervised processes of one data folder.

``up`` is idempotent and survives anything that ended an earlier run; ``D`` keeps the bucket, the queue, the documents and
the index. Several stacks live side by side, each in its folder.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.local import child, postgres, supervision
from infra.local import folder as files
from infra.local import parts as catalogue
from infra.local.folder import LAYOUT, OUT_OF_SPACE, Folder, StackError, create, require_disk_space, require_private
from infra.local.parts import PARTS, Provider
from infra.local.supervision import Process

__all__ = ["PARTS", "Part", "Provider", "Stack", "StackError", "delete", "down", "find", "provider_of", "up"]

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

    def end(self) -> None:
        """Stop the stack that this object's ``up`` started, unless another ``up`` has replaced it since."""
        if not (self.data_dir / "run").is_dir():
            return  # the folder was deleted, and all parts have ended
        with Folder.locked(self.data_dir) as folder:
            if self.supervisor is None or child.recorded(folder.run, child.KEEPER) in (None, self.supervisor.pid):
                _stop(folder)


def find(data_dir: Path) -> Stack | None:
    """The running stack of that folder, once all of its parts have answered; else None.

    Raises:
        StackError: others may write the folder, so that what it names can't be trusted.
    """
    require_private(data_dir.absolute())
    folder = Folder.load(data_dir)
    if not (folder.parts and supervision.is_running(folder)):
        return None
    return Stack(folder.path, folder.environment, tuple(folder.parts))


def provider_of(data_dir: Path) -> Provider | None:
    """The provider that the folder's last ``up`` chose; None before the first ``up``."""
    return catalogue.remembered_provider(Folder.load(data_dir))


def down(data_dir: Path) -> bool:
    """Stop every process of the folder; whether there was one. What the folder keeps stays."""
    path = data_dir.absolute()
    if not (path / "run").is_dir():
        return supervision.end_predecessors(path)
    with Folder.locked(path) as folder:
        ended = supervision.end_predecessors(path)
        return _stop(folder) or ended


def delete(data_dir: Path) -> list[str]:
    """Stop every process of the folder and delete the stack's files. Returns the names of other files that stay in it.

    Raises:
        StackError: no ``up`` has made the folder.
    """
    path = data_dir.absolute()
    if not Folder.is_stack(path):
        raise StackError(f"{path} is not the data folder of a stack: nothing was deleted.")
    with Folder.locked(path) as folder:
        _stop(folder)
        return files.delete(path)


def _stop(folder: Folder) -> bool:
    folder.parts = []
    # On a full disk the stack can still be stopped.
    with contextlib.suppress(OSError):
        folder.save()
    return supervision.stop(folder)


def up(
    data_dir: Path,
    *,
    parts: tuple[str, ...] = PARTS,
    provider: Provider | None = None,
    detach: bool = True,
    migrate_database: bool | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
    on_wait: Callable[[str], None] = lambda what: None,
) -> Stack:
    """Start the parts and return when each answers; a stack that runs already is returned as it is.

    A stack that older code started is stopped and started with this code.

    Args:
        provider: What embeds. None means the folder's last choice, and ``local`` for a new folder.
        migrate_database: None means where a worker is among the parts.
        detach: False ends the stack when this process ends.
        on_progress: Gets a line for each step that is done.
        on_wait: Gets the name of each step when it begins.

    Raises:
        StackError: a part can't start, the folder can't be used, its disk is full, or the running stack lacks one of the parts
            or embeds by another provider.
    """
    path = data_dir.absolute()
    try:
        create(path)
        require_disk_space(path)
        on_wait("the folder's lock")
        with Folder.locked(path) as folder:
            return _up(folder, parts, provider, detach, migrate_database, on_progress, on_wait)
    except OSError as error:
        if error.errno in OUT_OF_SPACE:
            require_disk_space(path)
        raise


def _up(
    folder: Folder,
    parts: tuple[str, ...],
    provider: Provider | None,
    detach: bool,
    migrate_database: bool | None,
    on_progress: Callable[[str], None],
    on_wait: Callable[[str], None],
) -> Stack:
    if folder.layout > LAYOUT:
        raise StackError(f"A newer version of lex-ingest has made {folder.path}: update this one, or choose another folder.")
    user = catalogue.of_user(os.environ)
    before = catalogue.remembered_provider(folder)
    chosen = provider or before or "local"
    names = catalogue.parts_to_start(parts, chosen, folder)
    running = find(folder.path)
    if running and folder.layout == LAYOUT:
        if missing := set(names) - set(running.part_names):
            lacks = ", ".join(sorted(missing))
            raise StackError(f"A stack runs in {folder.path} without {lacks}: run `lex-ingest down` first.")
        if chosen != before:
            raise StackError(f"The stack that runs in {folder.path} embeds by {before}: run `lex-ingest down` first.")
        on_progress(f"already running in {folder.path}")
        return running
    if chosen == "env" and not user.get("OPENAI_API_KEY"):
        raise StackError(
            "OPENAI_API_KEY is not set, and this stack embeds with that key's provider: set it,"
            " or run `lex-ingest up --provider local` to embed on this machine."
        )
    if running:
        on_progress("an older version of lex-ingest runs here: stopping it, and starting this version")
    on_wait("the running stack to end" if running else "an earlier run's processes to end")
    if running:
        supervision.end_older_foreground(folder)
    ended = supervision.end_predecessors(folder.path)
    if (_stop(folder) and not running) or ended:
        on_progress("ended processes that an interrupted run had left")
    folder.provider = chosen
    supervisor = None
    try:
        if "postgres" in names:
            on_wait("preparing PostgreSQL")
            postgres.prepare(folder)
            on_progress("PostgreSQL is prepared")
        groups = catalogue.processes(folder, names, user)
        supervisor = supervision.start(folder, groups, detach)
        _wait_for(folder, groups["services"], supervisor, on_progress, on_wait)
        _prepare(folder, names, "worker" in names if migrate_database is None else migrate_database, on_progress, on_wait)
        (folder.run / supervision.PREPARED).touch()
        _wait_for(folder, groups["clients"], supervisor, on_progress, on_wait)
        folder.parts, folder.layout = list(names), LAYOUT
        folder.save()
    except BaseException:  # Ctrl-C included: nothing may be left behind
        _stop(folder)
        if supervisor is not None:
            supervisor.wait()
        raise
    return Stack(folder.path, folder.environment, names, supervisor)


def _wait_for(
    folder: Folder,
    processes: list[Process],
    supervisor: subprocess.Popen[bytes],
    on_progress: Callable[[str], None],
    on_wait: Callable[[str], None],
) -> None:
    started = time.monotonic()
    for name in [process.name for process in processes]:
        on_wait(name)
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
                require_disk_space(folder.path)
                raise StackError(f"The part {name!r} did not answer within {START:.0f} s.{reason}{folder.log_tail(name)}")
            time.sleep(0.05)
        on_progress(f"{name} answers after {time.monotonic() - started:.1f} s")


def _prepare(
    folder: Folder,
    names: tuple[str, ...],
    migrate_database: bool,
    on_progress: Callable[[str], None],
    on_wait: Callable[[str], None],
) -> None:
    """The database and its tables, the bucket and its queues; running it again changes nothing."""
    if "postgres" in names:
        on_wait("the database's roles")
        postgres.create_database(folder)
        if migrate_database:
            on_wait("the database's tables")
            from worker.services.migration import migrate
            from worker.settings import Settings

            migrate(Settings.from_environment(folder.environment))
            on_progress("the database is migrated")
    if "aws" in names:
        on_wait("the bucket")
        from infra.local.resources import ensure

        ensure(folder.environment)
        on_progress("the bucket and its queue are there")
