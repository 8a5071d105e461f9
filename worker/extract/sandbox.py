"""Reading untrusted files in a disposable process: the worker's side.

``Sandbox`` owns one server process (worker.extract.sandbox_server), which forks a child per document. The worker's own process
loads no parser. Usable from a Celery prefork child: multiprocessing is not (a daemonic process may have no children of that
kind).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from worker import telemetry
from worker.domain.errors import Rejected, TransientError, Unavailable
from worker.domain.text import Reading
from worker.extract.reading import Order, wall_timeout
from worker.extract.sandbox_wire import RefusedAnswer, decode_answer

log = telemetry.get_logger(__name__)

_START_SECONDS = 30.0
# Seconds after the wall limit in which the server must report that the child is dead.
_GRACE_SECONDS = 5.0
_REPLY_BYTES = 4096
_READ_BYTES = 1_048_576
_NAME_CHARACTERS = 1000
# If the child used more than this share of its memory limit, report the crash as out of memory. A buffer that grows by doubling
# may have only a third of the limit when the next doubling fails.
_OUT_OF_MEMORY = 0.3
# JSON writes a character in at most 6 bytes of ASCII; blocks and paths add their own.
_ANSWER_BYTES_PER_CHARACTER = 6
_ANSWER_BYTES_BESIDES = 16_000_000
# For glibc's malloc; other C libraries ignore it. Left alone it gives memory back after each page of a PDF and takes it
# again for the next: 2.5 % of the CPU of reading small ones. A child ends with its document and may keep what it has till then.
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": "67108864", "MALLOC_TOP_PAD_": "1048576", "MALLOC_MMAP_THRESHOLD_": "4194304"}
# Signals that a parser's own mistake does not raise: somebody sent them (the kernel's out-of-memory killer, an operator).
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})


@dataclass(slots=True)
class _Server:
    process: subprocess.Popen[bytes]
    control: socket.socket
    owner: int


class Sandbox:
    """Reads one file at a time; other threads wait. Whatever happens to a file, the next one is read by a sound process.

    ``formats`` names modules with more ``FORMATS`` (see worker.extract.registry), which are tried before the built-in ones.
    """

    def __init__(self, formats: Sequence[str] = ()) -> None:
        self._formats = tuple(formats)
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._requests = 0

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def read(self, path: Path, order: Order) -> Reading:
        """Read a file.

        Raises:
            PermanentError: a verdict about the file: ``timeout``, ``memory``, ``crashed``, and what registry.extract raises.
            TransientError: what costs an attempt: ``crashed``, the child or the server was killed from outside, or by a file that
                can; ``timeout``, its time went by without its doing much.
            Unavailable: ``sandbox_unavailable``, the server can't be started or went away before it took the file.
            OSError: the file can't be opened.
        """
        with self._lock, path.open("rb") as document:
            try:
                server = self._running()
                self._requests += 1
                request = {"id": self._requests, **asdict(order), "name": order.name[-_NAME_CHARACTERS:]}
                answer, reply = _exchange(server, request, document.fileno())
            # Celery's SoftTimeLimitExceeded may come between any two lines: a server that may still owe an answer is not
            # asked again, so that no answer is ever taken for another document's.
            except BaseException:
                self._stop()
                raise
        log.info("file read", extra={name: reply[name] for name in ("exit", "peak", "cpu")})
        return _verdict(answer, reply, order)

    def close(self) -> None:
        """End the server; a later ``extract`` starts another."""
        self._stop()

    def _running(self) -> _Server:
        server = self._server
        if server is not None and (server.owner != os.getpid() or server.process.poll() is not None):
            self._stop()
            server = None
        if server is None:
            server = self._server = _start(self._formats)
        return server

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.control.close()
        # After a fork of the worker the server belongs to the other process: here only the descriptor goes.
        if server.owner == os.getpid():
            # Its children die with it (PR_SET_PDEATHSIG).
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
        else:
            # Or else Popen's finalizer warns of a child that this process never had.
            server.process.returncode = 0


def _start(formats: Sequence[str]) -> _Server:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [
        sys.executable,
        "-m",
        "worker.extract.sandbox_main",
        "--socket",
        str(theirs.fileno()),
        "--parent",
        str(os.getpid()),
    ]
    for module in formats:
        command += ["--formats", module]
    # Nothing of the worker's environment: it holds the secrets.
    environment = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        **_ALLOCATOR,
        "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
    }
    process = None
    try:
        with theirs:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        ours.settimeout(_START_SECONDS)
        ready = ours.recv(_REPLY_BYTES)
        if not ready:
            raise Unavailable("sandbox_unavailable", "the sandbox's process ended while starting")
    except BaseException as error:
        ours.close()
        if process is not None:
            process.kill()
            process.wait()
        if isinstance(error, OSError):
            raise Unavailable(
                "sandbox_unavailable", f"the sandbox's process cannot be started ({type(error).__name__})"
            ) from error
        raise
    log.info("sandbox started", extra={"confinement": json.loads(ready)})
    ours.setblocking(False)
    return _Server(process, ours, os.getpid())


def _exchange(server: _Server, request: dict[str, Any], document: int) -> tuple[bytes, dict[str, Any]]:
    """Send one request; return what the child wrote and the server's word on how it ended."""
    reading, writing = os.pipe()
    try:
        try:
            socket.send_fds(server.control, [json.dumps(request).encode()], [document, writing])
        except OSError as error:
            raise Unavailable("sandbox_unavailable", "the sandbox's process is gone") from error
        finally:
            os.close(writing)
        os.set_blocking(reading, False)
        return _collect(server, request, reading)
    finally:
        os.close(reading)


def _collect(server: _Server, request: dict[str, Any], reading: int) -> tuple[bytes, dict[str, Any]]:
    max_bytes = request["max_text_chars"] * _ANSWER_BYTES_PER_CHARACTER + _ANSWER_BYTES_BESIDES
    deadline = time.monotonic() + wall_timeout(request["timeout"]) + _GRACE_SECONDS
    parts: list[bytes] = []
    count = 0
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    poll.register(server.control, select.POLLIN)
    while True:
        ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
        if not ready:
            raise TransientError("timeout", "the sandbox did not answer in time")
        # The pipe first: when the server says that the child ended, all that the child wrote is in it already.
        while reading in ready and (part := _available(reading)) is not None:
            if not part:
                poll.unregister(reading)
                break
            parts.append(part)
            count += len(part)
            if count > max_bytes:
                raise Rejected("too_large", "the parser wrote more than any text within the limit")
        if server.control.fileno() in ready and not (ready.get(reading, 0) & select.POLLIN):
            data = server.control.recv(_REPLY_BYTES)
            if not data:
                # Gone in the middle of a document, which may be the cause or not.
                raise TransientError("crashed", "the sandbox's process ended while it read the file")
            reply = json.loads(data)
            if reply["id"] != request["id"]:
                raise Unavailable("sandbox_unavailable", "the sandbox answered another request")
            return b"".join(parts), reply


def _available(descriptor: int) -> bytes | None:
    """The bytes that are there; empty at the end; None if there are none yet."""
    try:
        return os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return None


def _verdict(answer: bytes, reply: dict[str, Any], order: Order) -> Reading:
    if reply["exit"] == -signal.SIGXCPU or reply["timed_out"] == "cpu":
        raise Rejected("timeout", f"reading the file takes more than {order.timeout:.0f} seconds of CPU time")
    if reply["timed_out"]:
        # This is no verdict about the file: its reader was frozen, or shared its CPU with too many processes.
        message = f"reading the file took more than {wall_timeout(order.timeout):.0f} seconds, and most of that was waiting"
        raise TransientError("timeout", message)
    if reply["exit"] != 0:
        # A C++ parser that gets no memory ends itself by a signal.
        if reply["peak"] - reply["before"] > _OUT_OF_MEMORY * order.memory:
            raise Rejected("memory", "reading the file takes more memory than allowed")
        how = f"signal {-reply['exit']}" if reply["exit"] < 0 else f"exit code {reply['exit']}"
        if -reply["exit"] in _FROM_OUTSIDE:
            raise TransientError("crashed", f"the parser was killed while it read the file ({how})")
        raise Rejected("crashed", f"the parser crashed on the file ({how})")
    try:
        return decode_answer(answer, order.max_text_chars, order.chunk_size)
    except RefusedAnswer as error:
        # The name of the field only: what the field holds is text of the document.
        log.warning("the parser's answer was refused", extra={"field": error.field})
        raise
