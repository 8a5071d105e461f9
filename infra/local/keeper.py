"""Runs supervisord, restarts it if it ends unexpectedly, and ends all processes of the stack if the data folder is gone.

    python -I -S keeper.py PYTHON … child.py D/run/processes.json supervisord

supervisord restarts every part but itself. This process passes a SIGTERM on to supervisord, and ends when supervisord ends on
request. If this process is killed, the kernel signals supervisord, which stops all parts. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # <sys/prctl.h>
MEANT = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
AWAITED = (signal.SIGTERM, signal.SIGCHLD)
LOOK = 1.0  # seconds between two looks at the data folder
PAUSE = 1.0  # seconds before supervisord is started again: on a full disk it may end at once each time


class DataFolder:
    """The data folder, by the path and the inode that it has when this process starts."""

    def __init__(self, processes: Path) -> None:
        self._processes, self._path = processes, processes.parent.parent
        self._identity = self._found()

    def _found(self) -> tuple[int, int] | None:
        found = self._path.stat()
        return found.st_dev, found.st_ino

    def is_gone(self) -> bool:
        """Whether the folder was deleted, moved or replaced.

        ``rm -rf`` of a folder in use may leave the folder itself, since parts write new files into it meanwhile.
        """
        try:
            self._processes.stat()
            return self._found() != self._identity
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # an I/O error does not prove that the folder is gone
            return False


def descendants(ancestor: int) -> list[int]:
    """The living descendants of a process, each parent before its children."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent, *_ = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if state not in "ZX":
                parents.setdefault(int(parent), []).append(int(entry.name))
    found = [ancestor]
    for pid in found:
        found += parents.get(pid, [])
    return found[1:]


def reap(supervisor: int) -> int | None:
    """Reap every child that has ended. Returns the exit code of supervisord, or None if it still runs."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == supervisor:
                code = os.waitstatus_to_exitcode(status)
    return code


def kill_descendants(ancestor: int) -> None:
    """Kill all descendants of a process, before one of them can react to the end of another.

    PostgreSQL would write its control file under the absolute path of its folder when it is told to end: by then that may be
    the file of another cluster. Pid files may be gone with the folder, so the processes are found by their parents.
    """
    deadline = time.monotonic() + 30
    while (remaining := descendants(ancestor)) and time.monotonic() < deadline:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in remaining:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        time.sleep(0.05)


def main() -> None:
    command = sys.argv[1:]
    folder = DataFolder(Path(command[-2]))
    # A process whose parent has ended becomes a child of this process, so that ``descendants`` still finds it.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Blocked, so that none is missed between a start and the wait for its end.
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    told = False
    while True:
        supervisor = os.posix_spawn(command[0], command, os.environ, setsid=True, setsigmask=())
        code = None
        while code is None:
            received = signal.sigtimedwait(AWAITED, LOOK)
            if received is not None and received.si_signo == signal.SIGTERM:
                told = True
                os.kill(supervisor, signal.SIGTERM)
            code = reap(supervisor)
            if folder.is_gone():
                return kill_descendants(os.getpid())
        if told or code == 0 or -code in MEANT:
            return None
        until = time.monotonic() + PAUSE
        while (left := until - time.monotonic()) > 0:
            received = signal.sigtimedwait(AWAITED, left)
            if received is not None and received.si_signo == signal.SIGTERM:
                return None
            reap(supervisor)


if __name__ == "__main__":
    main()
