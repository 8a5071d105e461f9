"""A seccomp filter for a process that reads untrusted files: no socket, no other program, no other process.

It works where nothing else does: in a container without privileges, on kernels without Landlock. Own code, because libseccomp's
Python bindings need a system library; a filter is a list of instructions (seccomp(2), linux/bpf_common.h, linux/audit.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass
from functools import cache

from worker import process

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
# Classes, sizes and modes of a BPF instruction, added up.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# struct seccomp_data: nr, arch, instruction pointer, six arguments of 64 bits, of which the lower half comes first.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_CLONE_THREAD = 0x00010000


@dataclass(frozen=True, slots=True)
class _Machine:
    """The audit name of an architecture, and the first system call number that is of another ABI (0: there is none)."""

    audit: int
    foreign_from: int
    column: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0x40000000, 0), "aarch64": _Machine(0xC00000B7, 0, 1)}

# Name -> numbers on x86_64 and aarch64 (arch/x86/entry/syscalls/syscall_64.tbl, asm-generic/unistd.h); None: not there.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # The network, and whatever listens at a path.
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    # Other programs.
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    # Other processes: their memory, files, signals, priorities.
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140), "process_madvise": (440, 440), "kcmp": (312, 272),
    # Other worlds, and the wide interfaces of the kernel.
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432),
    "io_uring_setup": (425, 425), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "init_module": (175, 105),
    "finit_module": (313, 273), "kexec_load": (246, 104),
}  # fmt: skip
# Allowed with this process' id as the first argument: abort() and raise() signal themselves.
_OF_ITSELF: dict[str, tuple[int, int]] = {"kill": (62, 129), "tgkill": (234, 131)}
# Allowed with 0, which means this process.
_PRLIMIT = (302, 261)
_CLONE, _CLONE3 = (56, 220), (435, 435)


def refuse_system_calls() -> bool:
    """Install the filter for this process, which must have no_new_privs set. False where that can't be done.

    What is refused fails with EPERM; clone3 with ENOSYS, on which the C library falls back to clone. Threads may be started.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    program = _program(machine, os.getpid())
    code = ctypes.create_string_buffer(program)
    # struct sock_fprog: the number of instructions of 8 bytes, and where they are.
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    return bool(process.libc().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) == 0)


def prepare() -> None:
    """Make what all processes' filters begin with, before a process forks those that install one."""
    machine = _MACHINES.get(platform.machine())
    if machine is not None:
        _beginning(machine)


def _program(machine: _Machine, process_id: int) -> bytes:
    refuse, allow = _refuse(), _instruction(_RETURN, _ALLOW)
    parts = [_beginning(machine)]
    conditions = [(numbers, _IF_EQUAL, process_id) for numbers in _OF_ITSELF.values()]
    conditions += [(_PRLIMIT, _IF_EQUAL, 0), (_CLONE, _IF_BITS, _CLONE_THREAD)]
    for numbers, test, value in conditions:
        parts += [
            _instruction(_IF_EQUAL, numbers[machine.column], 0, 4),
            _instruction(_LOAD, _FIRST_ARGUMENT),
            _instruction(test, value, 0, 1),
            allow,
            refuse,
        ]
    return b"".join([*parts, allow])


@cache
def _beginning(machine: _Machine) -> bytes:
    """What no process may do."""
    refuse = _refuse()
    parts = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_IF_EQUAL, machine.audit, 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER),
    ]
    if machine.foreign_from:
        parts += [_instruction(_IF_AT_LEAST, machine.foreign_from, 0, 1), refuse]
    for numbers in _REFUSED.values():
        number = numbers[machine.column]
        if number is not None:
            parts += [_instruction(_IF_EQUAL, number, 0, 1), refuse]
    parts += [_instruction(_IF_EQUAL, _CLONE3[machine.column], 0, 1), _instruction(_RETURN, _ERRNO | errno.ENOSYS)]
    return b"".join(parts)


def _refuse() -> bytes:
    return _instruction(_RETURN, _ERRNO | errno.EPERM)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter; the jumps count the instructions that are skipped."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
