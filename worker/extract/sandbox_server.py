"""The clean parent of the parsers: a process with every extractor imported, that forks one child per document.

Started by worker.extract.sandbox, through sandbox_main, with a bare environment and one socket; ends when that socket closes or
the worker dies. Each request is one datagram, ``{"id", …}`` with the fields of an ``Order`` as JSON, with two file descriptors:
the document to read, and the pipe for the child's answer. The reply says how the child ended; what it wrote is for the worker to
judge.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NoReturn

from worker import process
from worker.domain.errors import PermanentError, Rejected
from worker.extract import registry
from worker.extract.confinement import Confinement
from worker.extract.reading import Order, read, wall_timeout
from worker.extract.sandbox_wire import encode_error, encode_result
from worker.extract.warm_up import warm_up

REQUEST_BYTES = 65_536
_OPEN_FILES = 64
# The shortest time between two looks at a child's CPU clock, in seconds.
_SHORTEST_WAIT = 0.01
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve one worker until it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument(
        "--formats", action="append", default=[], metavar="MODULE", help="a module with more FORMATS, tried first"
    )
    options = parser.parse_args(arguments)
    _prepare(options.parent)
    added = tuple(format for name in options.formats for format in importlib.import_module(name).FORMATS)
    formats = added + registry.FORMATS
    registry.preload(formats)
    warm_up()
    child = _Child(formats, Confinement(), *_memory())
    # What is loaded now is shared with every child: no collection touches its pages.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=options.socket) as control:
        control.send(json.dumps(child.confinement.measures).encode())
        while True:
            data, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 2)
            if not data:
                return
            control.send(json.dumps(_serve(control, json.loads(data), descriptors, child)).encode())


def _prepare(parent: int) -> None:
    """Live and die with the worker, hide the memory, be the first that the kernel ends when it is short of some."""
    # A signal to all processes of a service is for the worker to act on: it ends this one when it has no more use for it.
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    process.end_with_parent(parent, signal.SIGKILL)
    # Before the memory is hidden: after that this file belongs to root.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    process.hide_memory()
    # Grandchildren that outlive a killed child come back to this process, which ends them.
    process.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(
    control: socket.socket,
    request: dict[str, Any],
    descriptors: list[int],
    ready: _Child,
) -> dict[str, Any]:
    document, answer = descriptors
    order = Order(**{item.name: request[item.name] for item in fields(Order)})
    deadline = time.monotonic() + wall_timeout(order.timeout)
    child = os.fork()
    if child == 0:
        control.close()
        ready.run(order, document, answer)
    os.close(document)
    os.close(answer)
    ended = _wait(child, control, order.timeout, deadline)
    _kill_group(child)
    _, status, usage = os.wait4(child, 0)
    _end_orphans()
    return {
        "id": request["id"],
        "exit": os.waitstatus_to_exitcode(status),
        "timed_out": None if ended in ("exit", "closed") else ended,
        "peak": usage.ru_maxrss * 1024,
        "before": ready.resident,
        "cpu": usage.ru_utime + usage.ru_stime,
    }


def _wait(child: int, control: socket.socket, seconds: float, deadline: float) -> Literal["exit", "cpu", "wall", "closed"]:
    """Wait until the child ends, has used ``seconds`` of CPU, reaches the deadline, or the worker closes the socket."""
    handle = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.register(control, select.POLLHUP)
        while True:
            # Without threads, the child can't use up its CPU time in less wall time. RLIMIT_CPU ends a child with threads.
            cpu_left, wall_left = seconds - _cpu_seconds(child), deadline - time.monotonic()
            if cpu_left <= 0:
                return "cpu"
            if wall_left <= 0:
                return "wall"
            ready = dict(poll.poll(max(_SHORTEST_WAIT, min(cpu_left, wall_left)) * 1000))
            if ready:
                return "exit" if handle in ready else "closed"
    finally:
        os.close(handle)


def _cpu_seconds(child: int) -> float:
    """The CPU time of a child that is not reaped yet, by its own clock (clock_getcpuclockid(3), in Linux' encoding)."""
    try:
        return time.clock_gettime(~child << 3 | 2)
    except OSError:
        # It has just ended, and its handle says so.
        return 0.0


def _kill_group(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        # It ended before it had its group, or did so and nobody is left in it.
        os.kill(child, signal.SIGKILL)


def _end_orphans() -> None:
    """End what a child left behind in other groups; between documents this process has no children."""
    while orphans := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for orphan in map(int, orphans):
            os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)


@dataclass(frozen=True, slots=True)
class _Child:
    """What a child does, and what the server got ready for it: a fresh child runs cold, and takes many times as long for it.

    ``mapped`` and ``resident`` are the bytes of address space and of memory that the server has, and every child with it:
    libraries map far more than they use.
    """

    formats: tuple[registry.Format, ...]
    confinement: Confinement
    mapped: int
    resident: int

    def run(self, order: Order, document: int, answer: int) -> NoReturn:
        """Read one document and write the answer; never returns into the server's loop."""
        code = 1
        try:
            os.setpgid(0, 0)
            # A parser's complaints quote the document; the worker's log is no place for it. The server's output goes nowhere.
            os.dup2(1, 2)
            process.end_with_parent(os.getppid(), signal.SIGKILL)
            self._limit(order)
            self.confinement.enter(document)
            data = _read(Path(f"/proc/self/fd/{document}"), order, self.formats)
            # Without a buffer, for which there may be no memory left.
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(answer, rest) :]
            code = 0
        finally:
            # No clean-up of the server's objects: this process is a copy.
            os._exit(code)

    def _limit(self, order: Order) -> None:
        seconds, memory = int(order.timeout) + 1, self.mapped + order.memory
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))


def _memory() -> tuple[int, int]:
    """Bytes of address space and of memory that this process has."""
    mapped, resident = Path("/proc/self/statm").read_text().split()[:2]
    return int(mapped) * resource.getpagesize(), int(resident) * resource.getpagesize()


# Encoded beforehand: a child without memory has none for this either.
_NO_MEMORY = encode_error(Rejected("memory", "reading the file takes more memory than allowed"))


def _read(path: Path, order: Order, formats: tuple[registry.Format, ...]) -> bytes:
    try:
        try:
            return encode_result(read(path, order, formats))
        except PermanentError as error:
            return encode_error(error)
    except MemoryError:
        return _NO_MEMORY
