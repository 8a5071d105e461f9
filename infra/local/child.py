"""Becomes one process of the local stack: ``python -I -S child.py D/run/processes.json NAME``.

Standard library only and run by path, so that it costs 20 ms. Between fork and exec it does what supervisord can't: it
ends what the last run of this part left behind, records the pid with the process's start time (a pid alone may be another
process's by tomorrow), and asks the kernel for a signal when its parent dies: a part's is supervisord, supervisord's is the
keeper, the keeper's is ``up`` or, detached, nobody. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

KEEPER, SUPERVISOR = "keeper", "supervisord"
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
MINIMUM_LIFE = 2.0  # seconds: a part that lived shorter waits before it starts again


def _stat(pid: int | str) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the command's name before them may hold spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def identity(pid: int) -> str | None:
    """What tells this process from a later one with the same pid, or None where it has ended (a zombie has)."""
    try:
        state, *rest = _stat(pid)
    except OSError:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if state in "ZX" else f"{boot} {rest[18]}"


def parent(pid: int) -> int | None:
    """The pid of the process' parent, or None where it has ended."""
    try:
        return int(_stat(pid)[1])
    except OSError:
        return None


def record(run: Path, name: str) -> None:
    (run / f"{name}.start").write_text(f"{os.getpid()} {identity(os.getpid())}")
    if name != KEEPER:  # what has a pid file may be killed, and comes back
        (run / f"{name}.pid").write_text(f"{os.getpid()}\n")


def record_with_space(run: Path, name: str) -> None:
    """Call ``record``, and repeat it while the disk is full. If the part ended instead, it would be restarted without pause."""
    while True:
        try:
            return record(run, name)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        time.sleep(0.5)


def _read(run: Path, name: str) -> tuple[int, str] | None:
    try:
        pid, start = (run / f"{name}.start").read_text().split(" ", 1)
        return int(pid), start
    except (OSError, ValueError):
        return None


def recorded(run: Path, name: str) -> int | None:
    """The pid of the part if the process that was recorded under that name is still alive."""
    found = _read(run, name)
    return found[0] if found and identity(found[0]) == found[1] else None


def group_members(group: int) -> list[int]:
    """The living processes of a process group."""
    members = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, pgrp, *_ = _stat(entry.name)
            if int(pgrp) == group and state not in "ZX":
                members.append(int(entry.name))
    return members


def end_leftovers(run: Path, name: str) -> bool:
    """Kill what an earlier run of the part left. Whether there was anything.

    A group keeps its number from being given out as a pid, so a group whose leader is gone can only be the recorded one.
    """
    found = _read(run, name)
    if found is None or identity(found[0]) not in (None, found[1]):
        return False
    group, any_left = found[0], False
    deadline = time.monotonic() + 5
    while group_members(group) and time.monotonic() < deadline:
        any_left = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        time.sleep(0.02)
    return any_left


def main() -> None:
    file, name = Path(sys.argv[1]), sys.argv[2]
    run, process = file.parent, json.loads(file.read_text())[name]
    os.umask(0o077)
    if process["death_signal"]:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, process["death_signal"], 0, 0, 0)
        if os.getppid() != (process["parent"] or recorded(run, KEEPER if name == SUPERVISOR else SUPERVISOR)):
            raise SystemExit("the parent died while this process was starting")
    try:
        lived = time.time() - (run / f"{name}.pid").stat().st_mtime
    except OSError:
        lived = MINIMUM_LIFE
    end_leftovers(run, name)
    (run / f"{name}.ready").unlink(missing_ok=True)
    record_with_space(run, name)
    if 0 <= lived < MINIMUM_LIFE:
        time.sleep(0.5)
    while process["needs"] and not (run / process["needs"]).exists():
        time.sleep(0.05)
    os.chdir(run.parent)
    os.execve(process["argv"][0], process["argv"], process["environment"])  # noqa: S606 - this file's purpose


if __name__ == "__main__":
    main()
