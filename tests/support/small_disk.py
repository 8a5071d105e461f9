"""A file system of its own, small enough to be filled by a test."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs at ``place``. Skips where this process may not mount; root may, except in a container without the right to."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(folder: Path) -> Path:
    """Write one file until the disk has no byte left. What a part frees meanwhile is taken by the next call."""
    number = sum(1 for _ in folder.glob("ballast*"))
    ballast = folder / f"ballast{number}"
    with ballast.open("wb", buffering=0) as stream:
        for block in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(block))
    return ballast


def is_filled(folder: Path) -> bool:
    try:
        (folder / "probe").write_bytes(bytes(1))
    except OSError as error:
        return error.errno == errno.ENOSPC
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / "probe")  # noqa: PTH108 - a path that may not be there
    return False


def free(folder: Path) -> None:
    for ballast in folder.glob("ballast*"):
        ballast.unlink()
