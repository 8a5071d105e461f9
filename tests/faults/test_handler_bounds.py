"""The ingest function while a part that it needs refuses, stands still or is full: cold, and with its connections open."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from tests.support.events import batch, notification
from tests.support.faults import Fault
from tests.support.function import TIMEOUT, Function
from tests.support.relay import Relay
from tests.support.valkey import free_port, start_valkey
from tests.support.workers import children_of, scalar
from worker.settings import Settings

MESSAGES = 10
BOUND = 3.0

Inject = Callable[[], AbstractContextManager[None]]


class Valkey:
    """A Valkey of its own with three faults."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._start()

    def _start(self) -> None:
        self._process, _ = start_valkey(self._folder, self.port, "--maxmemory-policy", "noeviction")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    @contextmanager
    def refused(self) -> Iterator[None]:
        self.end()
        yield
        self._start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGSTOP)
        yield
        self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def full(self) -> Iterator[None]:
        with redis.Redis(port=self.port) as client:
            client.config_set("maxmemory", "1")
            yield
            client.config_set("maxmemory", "0")


@contextmanager
def frozen_postgres(settings: Settings) -> Iterator[None]:
    """Every process of the server stands still."""
    with psycopg.connect(settings.database_url) as connection:
        status = Path(f"/proc/{connection.info.backend_pid}/status").read_text()
    server = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))
    stopped = [server, *children_of(server)]
    try:
        _signal(stopped, signal.SIGSTOP)
        yield
    finally:
        _signal(stopped, signal.SIGCONT)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        # A session that was about to end may be gone.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.mark.fault(
    "handler bounds", "Redis away: <= 3 s with rows committed; PostgreSQL away: every message reported failed, none lost"
)
@pytest.mark.timeout(400)
def test_the_function_answers_in_time_whatever_is_away(fault: Fault, settings: Settings, tmp_path: Path) -> None:
    numbers = count()
    worst: dict[str, float] = {}

    def recorded(keys: list[str]) -> bool:
        return scalar(settings.database_url, "SELECT count(*) FROM documents WHERE key = ANY (%s)", keys) == len(keys)

    def trial(name: str, inject: Inject, warm: bool, reports: bool, environment: dict[str, str]) -> None:
        """Invoke a function under a fault. It records its batch, or ``reports`` every message; then again without the fault."""
        case = f"{name}, {'warm' if warm else 'cold'}"
        keys = [f"{next(numbers)}.txt" for _ in range(2 * MESSAGES)]
        first, second = (
            batch(*(notification(settings.buckets[0], key, "e1") for key in half)) for half in (keys[:MESSAGES], keys[MESSAGES:])
        )
        with Function(tmp_path / "function.log", **environment) as function:
            if warm:
                fault.require(function.invoke(first) is not None, f"{case}: no answer before the fault")
            with inject():
                answer = function.invoke(second)
        wanted = {message["messageId"] for message in second["Records"]} if reports else set()
        if answer is None:
            fault.violation(f"{case}: no answer in {TIMEOUT:g} s")
        else:
            failed, seconds = answer
            worst[name] = max(worst.get(name, 0.0), seconds)
            fault.require(failed == wanted, f"{case}: {len(failed)} of {MESSAGES} messages reported failed")
            fault.require(reports or seconds <= BOUND, f"{case}: {seconds:.2f} s")
        if reports:
            with Function(tmp_path / "function.log", **environment) as again:
                fault.require(again.invoke(second) is not None, f"{case}: no answer when it came again")
        fault.require(recorded(keys[MESSAGES:]), f"{case}: not every document is recorded")

    valkey = Valkey(tmp_path)
    address = urlsplit(settings.database_url)
    relay = Relay(address.port or 5432)
    through = {"DATABASE_URL": address._replace(netloc=f"{address.netloc.rpartition(':')[0]}:{relay.port}").geturl()}
    own = {"REDIS_URL": f"redis://127.0.0.1:{valkey.port}/0"}
    try:
        for _ in range(fault.size(1, 5)):
            for warm in (False, True) if fault.size(0, 1) else (fault.random.random() < 0.5,):
                trial("Redis refused", valkey.refused, warm, False, own)
                trial("Redis frozen", valkey.frozen, not warm, False, own)
                trial("Redis full", valkey.full, warm, False, own)
                trial("PostgreSQL refused", relay.refused, not warm, True, through)
        for warm in (False, True)[: fault.size(1, 2)]:
            trial("PostgreSQL frozen", lambda: frozen_postgres(settings), warm, True, {})
    finally:
        valkey.end()
        relay.close()
    for name, seconds in worst.items():
        fault.figure(f"{name} s", seconds)
