"""supervisord over the parts of one data folder: its configuration, its start and end, and what a killed one left."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.local import child, keeper
from infra.local.child import KEEPER, SUPERVISOR
from infra.local.folder import Folder, write_private

# The file that says that the services are up, the tables and the bucket there.
PREPARED = "prepared"
# Seconds that supervisord may take to stop every part: the clients together, then the services together.
STOP = 75.0
# Seconds that parts get to end by themselves once their supervisor is dead.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Process:
    """How one part runs. The signals are numbers; ``stop_seconds`` is what it gets after ``stop_signal`` before it is killed.

    ``death_signal`` is what the kernel sends when the process' parent dies without stopping it (0: nothing); ``parent`` is
    its pid where child.py has not recorded it. It starts once there is the file ``D/run/<needs>``.
    """

    name: str
    argv: list[str]
    environment: dict[str, str]
    stop_signal: int = signal.SIGTERM
    stop_seconds: int = 10
    death_signal: int = signal.SIGTERM
    parent: int = 0
    needs: str = ""


def _configuration(groups: dict[str, list[Process]]) -> str:
    """Paths are relative to the data folder, and the launcher comes by the environment: both may hold ``;``, ``#`` or ``%``."""
    lines = [
        "[supervisord]", "nodaemon=true", "silent=true", "umask=077", f"logfile=log/{SUPERVISOR}.log",
        f"pidfile=run/{SUPERVISOR}.inner", "childlogdir=log", *(["user=0"] if os.geteuid() == 0 else []),
    ]  # fmt: skip
    for priority, (group, processes) in enumerate(groups.items()):
        if not processes:
            continue
        # The last group is stopped first, all of its parts at once.
        lines += [f"[group:{group}]", f"priority={priority}", f"programs={','.join(process.name for process in processes)}"]
        for process in processes:
            # startsecs=0: a part that dies is started again for ever; child.py waits where it dies at once. supervisord's
            # own back-off ends in FATAL, from which nothing starts again; a fork that the kernel refuses also counts for it.
            lines += [
                f"[program:{process.name}]", f"command=%(ENV_LEX_CHILD)s {process.name}",
                "autorestart=true", "startsecs=0", f"startretries={sys.maxsize}",
                f"stopsignal={process.stop_signal:d}", f"stopwaitsecs={process.stop_seconds}", "killasgroup=true",
                "redirect_stderr=true", f"stdout_logfile=log/{process.name}.log",
                "stdout_logfile_maxbytes=10MB", "stdout_logfile_backups=1",
            ]  # fmt: skip
    return "\n".join(lines) + "\n"


def start(folder: Folder, groups: dict[str, list[Process]], detach: bool) -> subprocess.Popen[bytes]:
    """Start the keeper, which starts supervisord, which starts the parts. Not detached, all end with this process.

    ``groups``: the parts by the name of their group, in the order in which the groups start.
    """
    file, configuration = folder.run / "processes.json", folder.run / f"{SUPERVISOR}.conf"
    write_private(configuration, _configuration(groups))
    python = [sys.executable, "-I", "-S"]
    launcher = [*python, child.__file__, str(file)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LEX_CHILD": shlex.join(launcher)}
    # Named by its path, because importing the module would import supervisor too.
    program = str(Path(__file__).with_name("supervisord.py"))
    supervisord = [sys.executable, "-P", program, "-c", f"run/{configuration.name}"]
    told = 0 if detach else signal.SIGTERM
    processes = [
        Process(KEEPER, [*python, keeper.__file__, *launcher, SUPERVISOR], environment, death_signal=told, parent=os.getpid()),
        Process(SUPERVISOR, supervisord, environment),
        *(process for group in groups.values() for process in group),
    ]
    write_private(file, json.dumps({process.name: asdict(process) for process in processes}))
    with folder.log(SUPERVISOR).open("ab") as log:
        command = [*launcher, KEEPER]
        return subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def is_running(folder: Folder) -> bool:
    """Whether the keeper runs. A keeper whose folder was moved is about to end, and counts as ended."""
    keeper_pid = child.recorded(folder.run, KEEPER)
    if keeper_pid is None:
        return False
    file = _processes_of(keeper_pid)
    with contextlib.suppress(OSError):
        return file is None or file.samefile(folder.run / "processes.json")
    return False


def _processes_of(pid: int) -> Path | None:
    """The file that a keeper was started with; None for any other process."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return None
    is_keeper = arguments[-1:] == [SUPERVISOR.encode()] and any(argument.endswith(b"/keeper.py") for argument in arguments)
    return Path(os.fsdecode(arguments[-2])) if is_keeper else None


def end_predecessors(path: Path) -> bool:
    """Kill a stack whose folder at this path was deleted or replaced. Returns whether there was one.

    The keeper of that stack would end it too, a moment later, unless it is of an older version.
    """
    own, found = child.recorded(path / "run", KEEPER), False
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if pid != own and _processes_of(pid) == path / "run" / "processes.json":
            with contextlib.suppress(ProcessLookupError, PermissionError):  # another user's process is not this stack's
                os.kill(pid, signal.SIGSTOP)
                found = True
                keeper.kill_descendants(pid)
                os.kill(pid, signal.SIGKILL)
    return found


def end_older_foreground(folder: Folder) -> None:
    """Kill an older version's ``up`` that runs without --detach: it would take the new stack for its own and stop it."""
    running = child.recorded(folder.run, KEEPER)
    try:
        recorded = json.loads((folder.run / "processes.json").read_text())[KEEPER]
    except (OSError, ValueError, KeyError):
        return
    if running is not None and recorded["death_signal"] and child.parent(running) == recorded["parent"] > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(recorded["parent"], signal.SIGKILL)


def stop(folder: Folder) -> bool:
    """Stop every part and supervisord, and end what a killed keeper left. Whether anything ran."""
    names = [file.stem for file in folder.run.glob("*.start") if file.stem not in (KEEPER, SUPERVISOR)]
    found = any(child.recorded(folder.run, name) for name in (KEEPER, SUPERVISOR, *names))
    head = child.recorded(folder.run, KEEPER) or child.recorded(folder.run, SUPERVISOR)
    if head is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(head, signal.SIGTERM)
    # A process that stands still by SIGSTOP is told nothing until it goes on.
    for name in (KEEPER, SUPERVISOR, *names):
        if (pid := child.recorded(folder.run, name)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    # A part whose supervisor died has been told so by the kernel, and is let end by itself before it is killed.
    deadline = time.monotonic() + (PATIENCE if head is None else STOP)
    while any(child.recorded(folder.run, name) for name in names) and time.monotonic() < deadline:
        time.sleep(0.05)
    # Without parts supervisord has nothing left to do, but would take another second or two to see that. The keeper first:
    # it would start the next one.
    for name in (KEEPER, SUPERVISOR, *names):
        found = child.end_leftovers(folder.run, name) or found
        for suffix in ("pid", "start", "ready"):
            (folder.run / f"{name}.{suffix}").unlink(missing_ok=True)
    (folder.run / PREPARED).unlink(missing_ok=True)
    return found
