"""What a process that reads untrusted files gives up: files, network, privileges, other processes.

Each measure is taken where the kernel allows it and stands for itself: a container may forbid namespaces, an old kernel knows no
Landlock, another user than root has no capabilities to drop. ``Confinement`` is made once by the sandbox's server, and
entered by each of its children for the one document that it reads.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
import sysconfig
from pathlib import Path

from worker import process
from worker.extract import syscall_filter

# linux/prctl.h, linux/sched.h, linux/capability.h.
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_CAPABILITY_VERSION = 0x20080522
# Read what belongs to another user: code that somebody else has installed. Landlock then says what may be read.
_CAP_DAC_READ_SEARCH = 1 << 2

# linux/landlock.h; the numbers are the same on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# How many kinds of access to files each version of the interface knows.
_KINDS_OF_ACCESS = {1: 13, 2: 14, 3: 15, 4: 15}
_KINDS_OF_ACCESS_NOW = 16
_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
# What an import or a parser may still read when it runs: code, time zones, code pages of the C library, the loader's cache.
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib")
_SYSTEM = (*_LIBRARIES, "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime")
_DEVICES = ("/dev/null", "/dev/urandom")


def landlock_version() -> int:
    """Of the kernel's interface; 0 where there is none, or it is switched off."""
    return max(0, int(process.libc().syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))


class Confinement:
    """The server's part is done when this is made; ``measures`` says which ones held, for the worker's log."""

    def __init__(self) -> None:
        self._libc = process.libc()
        syscall_filter.prepare()
        process.prctl(_PR_SET_NO_NEW_PRIVS, 1)
        self._landlock = landlock_version()
        places = [os.open(place, os.O_PATH | os.O_CLOEXEC) for place in _readable()] if self._landlock else []
        self._places = [(place, _access_to(place)) for place in places]
        self.measures = {
            "network": self._leave_network(),
            "capabilities": self._drop_capabilities(),
            "landlock": self._landlock,
        }

    def enter(self, document: int) -> None:
        """Confine this process for good: of all files it can open the code and ``document``, a descriptor, for reading."""
        if self._landlock:
            self._restrict_files(document)
        syscall_filter.refuse_system_calls()

    def _leave_network(self) -> bool:
        """A namespace of its own, in which there is no network; without privileges, with a namespace of users around it."""
        return any(self._libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))

    def _drop_capabilities(self) -> bool:
        """Without them root is a user like any other, and can't read the memory of processes that hide it."""
        header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0))
        kept = _CAP_DAC_READ_SEARCH if self._landlock and os.geteuid() == 0 else 0
        data = ctypes.create_string_buffer(struct.pack("=6I", kept, kept, 0, 0, 0, 0))
        return bool(self._libc.capset(header, data) == 0)

    def _restrict_files(self, document: int) -> None:
        kinds = _KINDS_OF_ACCESS.get(self._landlock, _KINDS_OF_ACCESS_NOW)
        size = 8 if self._landlock < 4 else 16 if self._landlock < 6 else 24
        attributes = struct.pack("=QQQ", (1 << kinds) - 1, _TCP, _ABSTRACT_SOCKETS_AND_SIGNALS)[:size]
        ruleset = self._libc.syscall(_CREATE_RULESET, attributes, size, 0)
        if ruleset < 0:
            raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
        own = os.open("/proc/self", os.O_PATH)
        for place, access in (*self._places, (own, _READ_FILE | _READ_DIR), (document, _READ_FILE)):
            self._allow(ruleset, place, access)
        if self._libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "landlock_restrict_self")
        os.close(ruleset)
        os.close(own)

    def _allow(self, ruleset: int, place: int, access: int) -> None:
        if self._libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", access, place), 0) != 0:
            raise OSError(ctypes.get_errno(), "landlock_add_rule")


def _access_to(place: int) -> int:
    """A file has no directory to list."""
    return _READ_FILE | _READ_DIR if stat.S_ISDIR(os.fstat(place).st_mode) else _READ_FILE


def _readable() -> list[str]:
    """Where code is: of this project the one package that the children run, for a stack's secrets may stand beside it."""
    installed = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = str(Path(__file__).parents[1])
    places = [*installed, f"{sys.base_prefix}/lib", own, *_SYSTEM, *_DEVICES]
    return [place for place in dict.fromkeys(places) if Path(place).exists()]
