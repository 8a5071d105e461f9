"""Starts one process of the local stack: ``python -I -S child.py SPEC.json``, then becomes it.

Standard library only and run by path, so that it costs 20 ms. Between fork and exec it does what a supervisor can't: it
records the pid with the process's start time (a pid alone may be another process's by tomorrow), asks the kernel for a
signal when the supervisor dies, ends what the last run of this part left behind, and, for PostgreSQL under root, changes
to the user ``nobody``. Linux only.

SPEC: ``name``, ``argv``, ``env``, ``cwd``, ``run`` (the folder of pid files) and, where wanted, ``death_signal``,
``parent`` (a pid, or the name of a part), ``user``, ``reach`` (paths that this user must get at), ``detach`` (to a log file).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# <sys/prctl.h>, <linux/securebits.h>, <linux/capability.h>
PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 28, 47, 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAPABILITY_VERSION_3 = 0x20080522
# Reading past a closed folder needs the first; a container may grant only the second (Docker's default set).
CAPABILITIES = {"CAP_DAC_READ_SEARCH": 2, "CAP_DAC_OVERRIDE": 1}

CANNOT_REACH = 77
MINIMUM_LIFE = 2.0  # seconds: a part that lived shorter waits before it starts again


def identity(pid: int) -> str | None:
    """What tells this process from a later one with the same pid, or None where it has ended (a zombie has)."""
    try:
        # The command's name may hold spaces and brackets; the state is the first field after its last bracket.
        state, *rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if state in "ZX" else f"{boot} {rest[18]}"


def recorded(run: Path, name: str) -> int | None:
    """The pid of the part if the process that was recorded under that name is still alive."""
    try:
        pid, start = int((run / f"{name}.pid").read_text()), (run / f"{name}.start").read_text()
    except (OSError, ValueError):
        return None
    return pid if identity(pid) == start else None


def group_members(group: int) -> list[int]:
    """The living processes of a process group."""
    members = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, pgrp, *_ = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(pgrp) == group and state not in "ZX":
                members.append(int(entry.name))
    return members


def end_leftovers(run: Path, name: str) -> bool:
    """Kill what an earlier run of the part left. Whether there was anything.

    A group keeps its number from being given out as a pid, so a group whose leader is gone can only be the recorded one.
    """
    try:
        pid = int((run / f"{name}.pid").read_text())
    except (OSError, ValueError):
        return False
    if identity(pid) is not None and recorded(run, name) is None:
        return False
    found = False
    deadline = time.monotonic() + 5
    while (members := group_members(pid)) and time.monotonic() < deadline:
        found = True
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        time.sleep(0.02)
    return found


def encode(spec: dict[str, Any]) -> str:
    """The text of a SPEC file."""
    return json.dumps(spec)


def record(run: Path, name: str) -> None:
    (run / f"{name}.start").write_text(identity(os.getpid()) or "")
    (run / f"{name}.pid").write_text(f"{os.getpid()}\n")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def become(user: str, capability: int | None) -> None:
    """Change to the user for good, keeping at most the one capability, which the program after exec gets too."""
    import pwd

    libc = ctypes.CDLL(None, use_errno=True)
    entry = pwd.getpwnam(user)
    if capability is not None:
        # Before setuid: access(2) asks with the real user's capabilities, which setuid would otherwise clear.
        _check(libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "prctl(PR_SET_SECUREBITS)")
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    if capability is not None:
        mask = 1 << capability
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
        _check(libc.capset(header, sets), "capset")
        _check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0), "prctl(PR_CAP_AMBIENT)")


def blocked(paths: list[str], programs: list[str]) -> str | None:
    """The first of the paths that this process can't enter or read, or the program that it can't run; None if all can."""
    for path in paths:
        if not os.access(path, os.R_OK | os.X_OK):
            parents = [str(parent) for parent in reversed(Path(path).parents) if not os.access(parent, os.X_OK)]
            return parents[0] if parents else path
    for program in programs:
        if subprocess.run([program, "--version"], capture_output=True, check=False).returncode != 0:
            return program
    return None


def _try_as(user: str, capability: int | None, paths: list[str], programs: list[str]) -> str | None:
    """``blocked`` as the user, in a child of its own, or the reason why that user can't be taken on."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            become(user, capability)
            answer = blocked(paths, programs) or ""
        except (OSError, KeyError) as error:
            answer = f"({error})"
        os.write(writer, answer.encode(errors="surrogateescape"))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read().decode(errors="surrogateescape")
    os.waitpid(child, 0)
    return answer or None


def take_on(user: str, paths: list[str], programs: list[str]) -> None:
    """Become the user with as little as it takes to reach the paths; end the process with a clear sentence if nothing does."""
    refusals = {}
    for name, capability in {"no capability": None, **CAPABILITIES}.items():
        refusals[name] = _try_as(user, capability, paths, programs)
        if refusals[name] is None:
            become(user, capability)
            return
    sys.stderr.write(
        f"PostgreSQL refuses to run as root, and the user {user!r} can't get at {refusals['no capability']}"
        f" ({'; '.join(f'with {name}: {refusals[name]}' for name in CAPABILITIES)})."
        " Choose a folder that other users may enter, or run as an ordinary user.\n"
    )
    raise SystemExit(CANNOT_REACH)


def main() -> None:
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    name, run = spec["name"], Path(spec["run"])
    os.umask(0o077)
    if spec.get("detach"):
        if os.fork():
            os._exit(0)
        os.setsid()
        log = os.open(spec["detach"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
    try:
        lived = time.time() - (run / f"{name}.pid").stat().st_mtime
    except OSError:
        lived = MINIMUM_LIFE
    end_leftovers(run, name)
    (run / f"{name}.ready").unlink(missing_ok=True)
    record(run, name)
    parent = spec.get("parent")
    if isinstance(parent, str):
        parent = recorded(run, parent) or -1
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(PR_SET_PDEATHSIG, spec.get("death_signal", 0), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if 0 <= lived < MINIMUM_LIFE:
        time.sleep(1.0)
    os.chdir(spec["cwd"])
    if spec.get("user"):
        take_on(spec["user"], spec["reach"], [spec["argv"][0]])
        # A change of user takes the death signal back.
        _check(libc.prctl(PR_SET_PDEATHSIG, spec.get("death_signal", 0), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if parent is not None and os.getppid() != parent:
        raise SystemExit("the supervisor died while this part was starting")
    os.execve(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 - becoming the program is this file's purpose


if __name__ == "__main__":
    main()
