"""The data folder D: which file is where, what is remembered between runs, and the lock that lets one ``up`` in.

::

    D/stack.json   ports, passwords and the environment of clients (0600)      D/run/   pid files, configuration (0700)
    D/postgres/    the database cluster                                        D/log/   one log a part
    D/valkey/      Celery's broker: append-only file                           D/tmp/   scratch space of the parts
    D/aws.sqlite   the bucket's objects and the queue's messages
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import json
import os
import pwd
import secrets
import shlex
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

# The version of the folder's layout, in ``stack.json``. 0 (the number is missing): the role in DATABASE_URL is the cluster's
# superuser. 1: a role of its own owns the database, and ``provider`` says which model embeds. ``up`` migrates to the newest one.
LAYOUT = 1
# Bytes and files that must be free on the disk. PostgreSQL writes its WAL in files of 16 MB, and may need two at once.
ENOUGH_BYTES, ENOUGH_FILES = 32_000_000, 200
OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)
# What `down --delete` removes. ``stack.json`` is last, since it marks the folder as a stack's if the deletion is interrupted.
ENTRIES = (
    "run", "log", "tmp", "postgres", "valkey", "aws.sqlite", "aws.sqlite-wal", "aws.sqlite-shm", "stack.json.new", "stack.json",
)  # fmt: skip


class StackError(Exception):
    """The local stack can't do what was asked; the message says why and what to do."""


@dataclass(slots=True)
class Folder:
    """An absolute path, and what its ``stack.json`` keeps.

    ``ports`` and ``secrets`` are by part, ``environment`` is what a client needs, ``parts`` those that were asked for: empty
    until all of them answer. ``layout`` is that of the code which started the stack last; ``provider`` is ``local``, ``env`` or,
    before the first start, empty.
    """

    path: Path
    ports: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    layout: int = 0
    provider: str = ""

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

    @classmethod
    def is_stack(cls, path: Path) -> bool:
        """Whether ``up`` has made the folder, even if that ``up`` did not finish."""
        try:
            cls.load(path)
        except StackError:
            return False
        return (path / "stack.json").is_file() and (path / "run").is_dir()

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
        """Wait until no other ``up`` or ``down`` works on the folder, and lock it. The kernel frees the lock if the process dies.

        Raises:
            StackError: others may write the folder, or it was deleted meanwhile.
        """
        require_private(path)
        lock = path / "run" / "lock"
        while True:
            try:
                with lock.open("w") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX)
                    if os.fstat(stream.fileno()).st_ino != lock.stat().st_ino:
                        continue  # the folder was deleted and made again while this process waited
                    yield cls.load(path)
                    return
            except FileNotFoundError:
                if lock.parent.exists():
                    raise
                raise StackError(f"The folder {path} was deleted meanwhile.") from None

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
        StackError: the folder can't be made or written, or others may write it.
    """
    try:
        # Not asked beforehand: another ``up`` may make it in between.
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        require_private(path)
        for name in ("run", "log", "tmp", "valkey"):
            (path / name).mkdir(exist_ok=True, mode=0o700)
            os.listdir(path / name)  # noqa: PTH208 - asked for its error: another user's folder
    except OSError as error:
        raise StackError(f"The folder {path} can't be used: {error.strerror}. Choose another with --data-dir.") from None


def require_private(path: Path) -> None:
    """Refuse a data folder that another user may write or exchange: it holds passwords and pickled objects.

    A folder that does not exist is accepted.

    Raises:
        StackError: the message says who may write what, and which command changes that.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found, quoted = path.lstat(), shlex.quote(str(path))
        if stat.S_ISLNK(found.st_mode):
            raise StackError(f"The data folder {path} is a symbolic link: name the folder itself, --data-dir {path.resolve()}.")
        if not stat.S_ISDIR(found.st_mode):
            raise StackError(f"{path} is not a folder: choose another data folder with --data-dir.")
        if found.st_uid != os.geteuid():
            owner = _name(found.st_uid)
            remedy = f"choose another with --data-dir, or take it over: `sudo chown -R {_name(os.geteuid())} {quoted}`"
            raise StackError(f"The data folder {path} belongs to the user {owner}, who may read and change all of it: {remedy}.")
        if others := _other_writers(found, sticky=False):
            raise StackError(f"The data folder {path} may be written by {others}: run `chmod go-w {quoted}` first.")
    for parent in path.resolve().parents:
        with contextlib.suppress(FileNotFoundError):
            if others := _other_writers(parent.stat(), sticky=True):
                remedy = f"run `chmod go-w {shlex.quote(str(parent))}` first, or choose another folder with --data-dir"
                raise StackError(f"The folder {parent} may be written by {others}, who could exchange the data folder: {remedy}.")


def _other_writers(found: os.stat_result, sticky: bool) -> str:
    """Name the others who may write there; "" if only the owner may.

    Args:
        sticky: whether the sticky bit counts as protection, because only an entry of the folder matters.
    """
    if sticky and found.st_mode & stat.S_ISVTX:
        return ""
    if found.st_mode & stat.S_IWOTH:
        return "every user"
    if found.st_mode & stat.S_IWGRP and not _is_private_group(found.st_gid):
        return f"the group {_name(found.st_gid, group=True)}"
    return ""


def _is_private_group(gid: int) -> bool:
    """Whether this user is the group's only member: most systems give each user such a group, and it may write their files."""
    with contextlib.suppress(KeyError):
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
        return group.gr_name == user.pw_name and user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}
    return False


def _name(number: int, group: bool = False) -> str:
    try:
        return grp.getgrgid(number).gr_name if group else pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Free space of a disk. ``files`` is None if the file system does not limit the number of files."""

    bytes: int
    files: int | None

    @property
    def is_full(self) -> bool:
        return self.bytes < ENOUGH_BYTES or (self.files is not None and self.files < ENOUGH_FILES)

    def __str__(self) -> str:
        if self.files is not None and self.files < ENOUGH_FILES:
            return f"room for {self.files} more files (at least {ENOUGH_FILES} are needed)"
        if self.is_full:
            return f"{self.bytes / 1e6:.1f} MB left (at least {ENOUGH_BYTES / 1e6:.0f} MB are needed)"
        return f"{self.bytes / 1e9:.1f} GB left"


def disk_space(path: Path) -> DiskSpace:
    """The free space of a data folder's disk, as far as a user without privileges, such as PostgreSQL, may use it.

    Raises:
        OSError: the folder does not exist.
    """
    found = os.statvfs(path)
    return DiskSpace(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def require_disk_space(path: Path) -> None:
    """Check that the disk of the data folder is not full.

    Raises:
        StackError: the disk is full; the message says how much is left.
    """
    space = disk_space(path)
    if space.is_full:
        raise StackError(
            f"The disk of the data folder {path} is full: {space}. Free some space; running parts then resume automatically."
        )


def delete(path: Path) -> list[str]:
    """Delete a stack's files, and the folder if it is then empty. Returns the names of other files that keep it."""
    for name in ENTRIES:
        entry = path / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    left = sorted(entry.name for entry in path.iterdir())
    if not left:
        path.rmdir()
    return left


def size(path: Path) -> int:
    """Bytes that the file or the files of the folder take on disk."""
    entries = [path, *path.rglob("*")]
    total = 0
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):  # a running part may remove it meanwhile
            total += entry.lstat().st_blocks * 512
    return total


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    new.replace(path)
