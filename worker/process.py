"""What a process asks of the kernel for itself. Linux only; elsewhere nothing happens, and the parent ends its children."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

# prctl(2): linux/prctl.h.
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


@cache
def libc() -> ctypes.CDLL:
    """The C library, opened once: opening makes classes, which takes a sandbox's child longer than the calls that it makes."""
    return ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """One call of prctl(2); a kernel that does not know the option changes nothing."""
    if sys.platform == "linux":
        libc().prctl(option, value, 0, 0, 0)


def end_with_parent(parent: int, signal: int) -> None:
    """Have the kernel send ``signal`` when the parent dies, also by kill -9.

    Raises:
        SystemExit: ``parent`` has died already.
    """
    prctl(_PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:
        raise SystemExit("the parent is gone")


def hide_memory() -> None:
    """Keep other processes of the same user, a parser's child among them, from reading this one's memory and environment.

    The kernel gives ``/proc/<pid>/environ`` of such a process to root alone (prctl(2), PR_SET_DUMPABLE).
    """
    prctl(_PR_SET_DUMPABLE, 0)
