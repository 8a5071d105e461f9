"""Files that kill their reader, exhaust its memory, loop or flood their output, among good ones."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.conftest import wait_until
from tests.support import truth
from tests.support.documents import execute
from tests.support.events import upload
from tests.support.faults import Fault
from tests.support.provider import Provider
from tests.support.victims import victims
from tests.support.workers import pool_of
from worker.settings import Settings

DEEDS = ("kill-self", "kill-server", "memory-error", "memory", "loop", "flood")
IN_FULL = (4, 1, 2, 3, 5, 5)
ATTEMPTS = 3
ENVIRONMENT = {"LEX_INGEST_EXTRACT_TIMEOUT": "3", "LEX_INGEST_EXTRACT_MEMORY": "600000000"}
_RETRY_NOW = "UPDATE documents SET due_at = now() WHERE due_at > now() AND lease_token IS NULL AND attempts > 0 AND NOT queued"
_ENDS = "SELECT key, id, status, attempts, error_code FROM documents WHERE key LIKE 'poison/%'"


@pytest.mark.fault("poison", "20 FAILED in <= 3 attempts, 200 INDEXED, 0 deaths of the worker's processes")
@pytest.mark.timeout(400)
def test_poison_fails_and_takes_nothing_with_it(fault: Fault, settings: Settings, provider: Provider, tmp_path: Path) -> None:
    counts = [fault.size(1, number) for number in IN_FULL]
    bad = {
        f"poison/{deed}-{number}": f"POISON {deed} ".encode()
        for deed, times in zip(DEEDS, counts, strict=True)
        for number in range(times)
    }
    good = {f"good/{number}.txt": f"The good document {number} is indexed.".encode() for number in range(fault.size(30, 200))}
    keys = [*bad, *good]
    fault.random.shuffle(keys)
    with victims(tmp_path, ["worker"], 2, **ENVIRONMENT) as (worker,):
        pool = pool_of(worker.process)
        upload(settings, {key: (bad | good)[key] for key in keys})

        def done() -> bool:
            if fault.size(1, 0):
                # The short form does not sit out the time between two attempts.
                execute(settings, _RETRY_NOW)
            return truth.at_rest(settings.database_url)

        wait_until(done, 200, "every document has ended")
        deaths = int(worker.process.poll() is not None) + len(set(pool) - set(pool_of(worker.process)))
        failures = worker.failures()
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        ends = connection.execute(_ENDS.encode()).fetchall()
    failed = 0
    for key, identity, status, attempts, code in ends:
        failed += status == "FAILED"
        fault.require(status == "FAILED", f"{key}: {status}")
        fault.require(attempts <= ATTEMPTS, f"{key}: {attempts} attempts")
        fault.require(1 <= failures[identity] <= ATTEMPTS, f"{key}: failed {failures[identity]} times")
        fault.require(bool(code), f"{key}: no code says why")
    fault.figure("poison FAILED", f"{failed} of {len(bad)}")
    fault.figure("good", len(good))
    fault.figure("most attempts", max(failures[identity] for _, identity, *_ in ends))
    fault.figure("deaths", deaths)
    fault.require(deaths == 0, f"{deaths} processes of the worker died")
    for line in truth.violations(settings.database_url, settings.buckets[0], bad=bad):
        fault.violation(line)
