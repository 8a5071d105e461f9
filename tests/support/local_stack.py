"""Short forms for the tests of the local stack."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import redis

from infra.local import child
from infra.local.stack import Stack

PARTS = ("postgres", "valkey")


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def processes(folder: Path) -> dict[str, int]:
    names = ("supervisord", *PARTS)
    found = {name: child.recorded(folder / "run", name) for name in names}
    return {name: pid for name, pid in found.items() if pid is not None}


def answers(stack: Stack) -> bool:
    with contextlib.suppress(psycopg.OperationalError, redis.ConnectionError):
        with psycopg.connect(stack.environment["DATABASE_URL"], connect_timeout=2) as connection:
            connection.execute("SELECT '[1,2]'::vector")
        with redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
            return bool(client.ping())
    return False
