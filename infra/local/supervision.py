"""supervisord over the parts of one data folder: its configuration, its start and end, and what a killed one left."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local import child
from infra.local.folder import Folder, Memory, StackError, write_private

NAME = "supervisord"
# Seconds that supervisord may take to stop every part, one after another.
STOP = 60.0
# Seconds that parts get to end by themselves once their supervisor is dead.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Process:
    """How one part runs. ``stop_seconds`` is what it gets after its stop signal before it is killed."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    stop_signal: str = "TERM"
    # What the kernel sends when the supervisor dies without stopping the part.
    death_signal: str = "TERM"
    stop_seconds: int = 10
    spec: dict[str, Any] | None = None


def _launcher(spec: Path) -> str:
    words = [sys.executable, "-I", "-S", child.__file__, str(spec)]
    return " ".join(shlex.quote(word) for word in words)


def _configuration(folder: Folder, processes: list[Process], port: int, secret: str) -> str:
    """Paths are relative to the data folder, and the launcher comes by the environment: both may hold ``;``, ``#`` or ``%``."""
    lines = [
        "[supervisord]", "nodaemon=true", "silent=true", "umask=077", "loglevel=info",
        f"logfile=log/{NAME}.log", f"pidfile=run/{NAME}.inner", "childlogdir=log", "strip_ansi=false",
        *(["user=0"] if os.geteuid() == 0 else []),
        "[inet_http_server]", f"port=127.0.0.1:{port}", "username=lex", f"password={secret}",
        "[rpcinterface:supervisor]", "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]  # fmt: skip
    for priority, process in enumerate(processes):
        # startsecs=0: a part that dies is started again for ever; child.py waits where it dies at once. supervisord's own
        # back-off ends in FATAL, from which nothing starts again.
        lines += [
            f"[program:{process.name}]", f"command=%(ENV_LEX_CHILD_{process.name.upper()})s", f"priority={priority}",
            "autostart=false", "autorestart=true", "startsecs=0",
            f"stopsignal={process.stop_signal}", f"stopwaitsecs={process.stop_seconds}", "killasgroup=true",
            "redirect_stderr=true", f"stdout_logfile=log/{process.name}.log",
            "stdout_logfile_maxbytes=10MB", "stdout_logfile_backups=1",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _signal(name: str) -> int:
    return int(signal.Signals[f"SIG{name}"])


def start(folder: Folder, memory: Memory, processes: list[Process], detach: bool) -> subprocess.Popen[bytes] | None:
    """Start supervisord with every part stopped, and wait until it answers. Not detached, it ends with this process.

    Raises:
        StackError: it did not come up.
    """
    port, secret = memory.port(NAME), memory.secret(NAME)
    write_private(folder.run / f"{NAME}.conf", _configuration(folder, processes, port, secret))
    place = {"cwd": str(folder.path), "run": str(folder.run)}
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    for process in processes:
        spec: dict[str, Any] = {"name": process.name, "argv": process.argv, "env": process.environment, "parent": NAME}
        spec |= {"death_signal": _signal(process.death_signal), **place, **(process.spec or {})}
        file = folder.run / f"{process.name}.json"
        write_private(file, child.encode(spec))
        environment[f"LEX_CHILD_{process.name.upper()}"] = _launcher(file)
    argv = [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", f"run/{NAME}.conf"]
    spec = {"name": NAME, "argv": argv, "env": environment, **place}
    if detach:
        spec["detach"] = str(folder.log / f"{NAME}.out.log")
    else:
        spec |= {"death_signal": int(signal.SIGTERM), "parent": os.getpid()}
    write_private(folder.run / f"{NAME}.json", child.encode(spec))
    command = [sys.executable, "-I", "-S", child.__file__, str(folder.run / f"{NAME}.json")]
    popen = None
    if detach:
        subprocess.run(command, check=True)
    else:
        popen = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for("the supervisor", lambda: bool(ask(memory, "getState")), 15.0, lambda: folder.log_tail(f"{NAME}.out"))
    return popen


def wait_for(what: str, ready: Callable[[], bool], seconds: float, details: Callable[[], str]) -> None:
    """Ask until the answer is yes; an error counts as no.

    Raises:
        StackError: it was not so within that many seconds; the message ends with the details.
    """
    deadline = time.monotonic() + seconds
    reason = ""
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except Exception as error:  # noqa: BLE001 - drivers differ in what they raise while nobody listens
            reason = f"{type(error).__name__}: {error}"
        time.sleep(0.05)
    raise StackError("\n".join(filter(None, [f"{what} did not answer within {seconds:.0f} s. {reason}", details()])))


def ask(memory: Memory, method: str, *arguments: str | bool) -> Any:
    """Call ``supervisor.<method>`` of supervisord's XML-RPC interface."""
    address = f"http://lex:{memory.secret(NAME)}@127.0.0.1:{memory.ports.get(NAME, 0)}/RPC2"
    with xmlrpc.client.ServerProxy(address) as server:
        return getattr(server.supervisor, method)(*arguments)


def is_running(folder: Folder) -> bool:
    return child.recorded(folder.run, NAME) is not None


def stop(folder: Folder, names: list[str], popen: subprocess.Popen[bytes] | None = None) -> bool:
    """Stop every part and supervisord, and end what a killed supervisor left. Whether anything ran."""
    pid = child.recorded(folder.run, NAME)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _wait_until(lambda: child.recorded(folder.run, NAME) is None, STOP)
    # A part whose supervisor died has been told so by the kernel, and is let end by itself before it is killed.
    alive = [name for name in names if child.recorded(folder.run, name) is not None]
    _wait_until(lambda: not any(child.recorded(folder.run, name) for name in alive), PATIENCE)
    found = pid is not None or bool(alive)
    for name in (NAME, *names):
        found = child.end_leftovers(folder.run, name) or found
        for suffix in ("pid", "start", "ready"):
            (folder.run / f"{name}.{suffix}").unlink(missing_ok=True)
    if popen is not None:
        popen.wait()
    return found


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
