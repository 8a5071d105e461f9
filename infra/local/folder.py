"""The data folder D: which file is where, what is remembered between runs, and the lock that lets one ``up`` in.

::

    D/stack.json   ports, passwords and the environment of clients (0600)      D/run/   pid files, configuration (0700)
    D/postgres/    the database cluster                                        D/log/   one log a part
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
class Folder:
    """An absolute path, and what its ``stack.json`` keeps.

    ``ports`` and ``secrets`` are by part, ``environment`` is what a client needs, ``parts`` those that were asked for: empty
    until all of them answer.
    """

    path: Path
    ports: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Folder:
        """The folder as it was saved last, or a new one.

        Raises:
            StackError: ``stack.json`` can't be read.
        """
        file = path.absolute() / "stack.json"
        try:
            return cls(file.parent, **json.loads(file.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return cls(file.parent)
        except (OSError, ValueError, TypeError) as error:
            raise StackError(f"{file} can't be read ({error}): choose another data folder.") from None

    def save(self) -> None:
        kept = {name: value for name, value in asdict(self).items() if name != "path"}
        write_private(self.path / "stack.json", json.dumps(kept, indent=2) + "\n")

    @property
    def run(self) -> Path:
        return self.path / "run"

    def log(self, part: str) -> Path:
        return self.path / "log" / f"{part}.log"

    def log_tail(self, part: str) -> str:
        """The end of the part's log as the end of an error message."""
        lines = self.log(part).read_text(errors="replace").splitlines()[-15:] if self.log(part).exists() else []
        return "\n".join([f"\nThe end of {self.log(part)}:", *lines])

    @classmethod
    @contextlib.contextmanager
    def locked(cls, path: Path) -> Iterator[Folder]:
        """The folder, once no other ``up`` or ``down`` works on it. The kernel frees it when the holder dies."""
        with (path / "run" / "lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield cls.load(path)

    def port(self, part: str) -> int:
        """Choose the part's port: the one it had, if nobody else took it meanwhile, else a free one."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.ports.get(part, 0)))
            except OSError:
                probe.bind(("127.0.0.1", 0))
            self.ports[part] = probe.getsockname()[1]
        return self.ports[part]

    def secret(self, part: str) -> str:
        return self.secrets.setdefault(part, secrets.token_hex(24))


def create(path: Path) -> None:
    """Make the folder and its parts. As root, others may pass through it: PostgreSQL runs as another user.

    Raises:
        StackError: the folder can't be made or written.
    """
    try:
        # Not asked beforehand: another ``up`` may make it in between.
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for name in ("run", "log", "tmp", "valkey"):
            (path / name).mkdir(exist_ok=True, mode=0o700)
            os.listdir(path / name)  # noqa: PTH208 - asked for its error: another user's folder
    except OSError as error:
        raise StackError(f"The folder {path} can't be used: {error.strerror}. Choose another with --data-dir.") from None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    new.replace(path)
