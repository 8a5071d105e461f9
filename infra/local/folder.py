"""The data folder D: which file is where, what is remembered between runs, and the lock that lets one ``up`` in.

::

    D/stack.json   ports, passwords and the environment of clients (0600)      D/run/   pid files, process specs (0700)
    D/postgres/    the database cluster and its password                       D/log/   one log a part
    D/valkey/      Celery's broker: append-only file                           D/tmp/   scratch space of the parts
    D/aws.sqlite   the bucket's objects and the queue's messages
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path


class StackError(Exception):
    """The local stack can't do what was asked; the message says why and what to do."""


@dataclass(slots=True)
class Memory:
    """What ``stack.json`` keeps. ``ports`` and ``secrets`` are by part; ``environment`` is what a client needs."""

    ports: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    def port(self, part: str) -> int:
        """The part's port: the one it had, if nobody else took it meanwhile, else a free one."""
        wanted = self.ports.get(part, 0)
        try:
            self.ports[part] = _free_port(wanted)
        except OSError:
            self.ports[part] = _free_port(0)
        return self.ports[part]

    def secret(self, part: str) -> str:
        return self.secrets.setdefault(part, secrets.token_hex(24))


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        port: int = probe.getsockname()[1]
        return port


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    new.replace(path)


@dataclass(frozen=True, slots=True)
class Folder:
    """``path`` is absolute."""

    path: Path

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def ready(self) -> Path:
        """Exists while every part that was asked for answers."""
        return self.run / "ready"

    def create(self) -> None:
        """Make the folder and its parts. As root, others may pass through it: PostgreSQL runs as another user.

        Raises:
            StackError: the folder can't be made or written.
        """
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for name in ("run", "log", "tmp", "valkey"):
                (self.path / name).mkdir(exist_ok=True, mode=0o700)
                os.listdir(self.path / name)  # noqa: PTH208 - asked for its error: another user's folder
        except OSError as error:
            raise StackError(f"The folder {self.path} can't be used: {error.strerror}. Choose another with --data-dir.") from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other ``up`` or ``down`` works on this folder. The kernel frees it when the holder dies."""
        with (self.run / "lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def load(self) -> Memory:
        try:
            return Memory(**json.loads((self.path / "stack.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Memory()
        except (OSError, ValueError, TypeError) as error:
            raise StackError(f"{self.path / 'stack.json'} can't be read ({error}): choose another data folder.") from None

    def save(self, memory: Memory) -> None:
        write_private(self.path / "stack.json", json.dumps(asdict(memory), indent=2) + "\n")

    def log_tail(self, part: str, lines: int = 15) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self.log / f"{part}.log").read_text(errors="replace").splitlines()[-lines:])
        return ""
