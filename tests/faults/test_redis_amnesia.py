"""Redis loses everything that it holds, again and again, while documents are on their way."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import psycopg
import pytest
import redis

from tests.support import truth
from tests.support.documents import tell
from tests.support.faults import Fault
from tests.support.provider import Provider
from tests.support.storm import Broker, prose, until, worker_on
from worker.settings import Settings

# The bound of the table, for a tick of 5 s.
RESENT = 15.0
_WAITING = "SELECT id::text, status, generation FROM documents WHERE queued AND lease_token IS NULL AND due_at IS NOT NULL"


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Broker]:
    """A Valkey that keeps nothing on the disk."""
    broker = Broker(tmp_path / "valkey", keeps=False)
    yield broker
    broker.close()


class Watch(threading.Thread):
    """Which wake-ups are lost, since when, and how long each took to be sent again; looks ten times a second.

    A wake-up is lost when Redis is wiped while its row waits for it (``queued``, unclaimed). It is sent again when a message
    in Redis names the document, or when the document was claimed, which only a message does. One that is lost anew before it
    was sent again counts from the first time.
    """

    def __init__(self, broker: Broker, database_url: str) -> None:
        super().__init__(name="watch", daemon=True)
        self._broker = broker
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._lost: dict[tuple[str, str, int], float] = {}
        self.times: list[float] = []

    def _waiting(self) -> set[tuple[str, str, int]]:
        return {(row[0], row[1], row[2]) for row in self._connection.execute(_WAITING)}

    def run(self) -> None:
        while not self._ended.wait(0.1):
            with self._lock, contextlib.suppress(redis.RedisError):
                self._look()

    def _look(self) -> None:
        if self._lost:
            waiting, named, now = self._waiting(), self._broker.messages(), time.monotonic()
            for row in [row for row in self._lost if row not in waiting or row[0] in named]:
                self.times.append(now - self._lost.pop(row))

    @contextlib.contextmanager
    def wipe(self) -> Iterator[None]:
        """Around the loss of everything: what waits after it has lost its wake-up."""
        with self._lock:
            self._look()  # what was sent since the last look was sent, even if it is lost again now
            at = time.monotonic()
            yield
            for row in self._waiting():
                self._lost.setdefault(row, at)

    def is_complete(self) -> bool:
        """Whether every wake-up was sent again."""
        return not self._lost

    def end(self) -> list[float]:
        """Seconds of each wake-up; of those that nobody sent again, for how long they have been missing."""
        self._ended.set()
        self.join()
        self._connection.close()
        return sorted([*self.times, *(time.monotonic() - at for at in self._lost.values())])


@pytest.mark.fault("Redis amnesia", "100% terminal, every lost wake-up sent again <= 15 s with a tick of 5 s")
@pytest.mark.timeout(400)
def test_wake_ups_that_redis_forgot_are_sent_again(
    fault: Fault, settings: Settings, provider: Provider, forgetful: Broker, tmp_path: Path
) -> None:
    """FLUSHALL, or kill -9 of a Valkey without a file, at random moments over documents that wait and are worked on.

    The low-water mark is above the number of documents, so that no row waits for room in its queue: what is measured is
    when a lost wake-up is noticed. The provider is slow, so that something waits whatever the machine is like.
    """
    provider.delay = 0.4
    first, then, wipes = fault.size(30, 100), fault.size(10, 20), fault.size(2, 20)
    ours = dataclasses.replace(settings, redis_url=forgetful.url)
    client, bucket = boto3.client("s3"), settings.buckets[0]
    watch = Watch(forgetful, settings.database_url)
    kinds = [("FLUSHALL", "kill")[number % 2] for number in range(wipes)]
    fault.random.shuffle(kinds)
    keys: list[str] = []

    def put(key: str) -> None:
        answer = client.put_object(Bucket=bucket, Key=key, Body=prose(fault.random, 60).encode())
        tell(ours, key, etag=answer["ETag"].strip('"'))

    def put_new(count: int) -> None:
        for _ in range(count):
            keys.append(f"amnesia/{len(keys):04}.txt")
            put(keys[-1])

    with worker_on(forgetful, tmp_path / "worker.log", LEX_INGEST_LOW_WATER="1000") as worker:
        watch.start()
        put_new(first)
        for kind in kinds:
            put_new(then)
            for key in fault.random.sample(keys, k=then // 2):
                put(key)
            time.sleep(fault.random.uniform(0, fault.size(1, 3)))
            with watch.wipe():
                if kind == "kill":
                    forgetful.restart(signal.SIGKILL)
                else:
                    with forgetful.client() as admin:
                        admin.flushall()
        last = time.monotonic()
        provider.delay = 0
        until(watch.is_complete, 2 * RESENT)
        rested = until(lambda: truth.at_rest(settings.database_url), 60, 0.1)
        fault.figure("at rest after s", time.monotonic() - last)
        fault.require(rested is not None, "not at rest 60 s after the last wake-up was sent again")
        fault.require(worker.poll() is None, "the worker ended")
        times = watch.end()
    fault.figure("wipes", f"{kinds.count('FLUSHALL')} FLUSHALL {kinds.count('kill')} kills")
    fault.figure("documents", len(keys))
    fault.figure("overwrites", then // 2 * wipes)
    fault.figure("wake-ups lost", len(times))
    fault.require(len(times) >= wipes, "hardly a wake-up was in Redis when it was wiped: nothing was tested")
    for name, share in (("sent again after s: half", 0.5), ("99%", 0.99), ("worst", 1.0)):
        fault.figure(name, times[min(len(times) - 1, int(len(times) * share))] if times else 0.0)
    late = [seconds for seconds in times if seconds > RESENT]
    fault.require(not late, f"{len(late)} wake-ups were sent again after more than {RESENT:g} s")
    for violation in truth.violations(settings.database_url, bucket):
        fault.violation(violation)
