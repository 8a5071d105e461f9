"""Short forms for the tests of the local stack."""

from __future__ import annotations

import contextlib
import subprocess
import sys
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


_OLDER = """
import json, sys
from pathlib import Path
from infra.local import postgres, stack
from infra.local.folder import Folder, create

postgres.SUPERUSER = postgres.USER  # initdb's role was the clients' one
folder = Path(sys.argv[1])
create(folder)
fresh = Folder.load(folder)
fresh.secrets |= {"aws_access_key_id": "local", "aws": "local"}  # the keys of every stack
fresh.save()
stack.up(folder, parts=tuple(sys.argv[3:]), provider=sys.argv[2])
kept = json.loads((folder / "stack.json").read_text())
del kept["layout"], kept["provider"]
for secret in set(kept["secrets"]) - {"postgres", "valkey", "embeddings"}:
    del kept["secrets"][secret]
(folder / "stack.json").write_text(json.dumps(kept))
"""


def older(folder: Path, parts: tuple[str, ...], provider: str = "local", environment: dict[str, str] | None = None) -> None:
    """Leave a running stack in the folder, in the form that the code of 26 November gave it."""
    command = [sys.executable, "-c", _OLDER, str(folder), provider, *parts]
    subprocess.run(command, cwd=Path(child.__file__).parents[2], env=environment, check=True)
