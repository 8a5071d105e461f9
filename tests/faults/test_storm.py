"""A million documents wait and nobody consumes: the dispatcher must neither flood Redis nor become slow."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.support.documents import execute
from tests.support.faults import Fault
from worker import producer
from worker.services import dispatch
from worker.settings import Settings
from worker.store.driver import connect

TICKS = 10


@pytest.mark.fault("storm", "at most 2 low-water marks of messages in Redis; a tick <= 1 s")
@pytest.mark.timeout(300)
def test_a_million_waiting_documents_do_not_become_a_million_messages(fault: Fault, settings: Settings) -> None:
    rows = fault.size(50_000, 1_000_000)
    # Every row is due again before the next tick, so that each tick could send for all of them.
    settings = replace(settings, requeue_after=0.001)
    execute(
        settings,
        "INSERT INTO documents (bucket, key, status, due_at)"
        " SELECT %s, 'storm/' || number, 'PENDING', now() - make_interval(secs => number %% 3600 + 1)"
        " FROM generate_series(1, %s) number",
        settings.buckets[0],
        rows,
    )
    slowest, most = 0.0, 0
    with connect(settings.database_url, "storm") as connection:
        for number in range(TICKS):
            started = time.monotonic()
            result = dispatch.tick(connection, settings)
            slowest = max(slowest, time.monotonic() - started)
            most = max(most, sum(producer.queue_lengths(settings).values()))
            fault.require(result.ran, f"tick {number} did not run")
            fault.require(result.not_sent == 0, f"tick {number} could not send {result.not_sent} messages")
    fault.figure("rows", rows)
    fault.figure("messages", most)
    fault.figure("slowest tick s", slowest)
    fault.require(most > 0, "nobody was woken")
    fault.require(most <= 2 * settings.low_water, f"{most} messages, with a low-water mark of {settings.low_water}")
    fault.require(slowest <= 1, f"a tick took {slowest:.2f} s")
