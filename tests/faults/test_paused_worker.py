"""A worker that stood still past its lease, and goes on when its documents have long been done by another."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from tests.conftest import wait_until
from tests.support import truth
from tests.support.events import upload
from tests.support.faults import Fault
from tests.support.provider import Provider
from tests.support.victims import Victim, victims
from worker.settings import Settings

LEASE = 2.0
# The promise for a fault, whatever it was: a worker that stops inside a transaction keeps its row locked until PostgreSQL ends
# that session (worker.store.session).
RESUMED = 60.0
ENVIRONMENT = {
    "LEX_INGEST_LEASE": str(LEASE),
    "LEX_INGEST_EMBEDDING_BATCH": "2",
    "LEX_INGEST_CHUNK_SIZE": "300",
    "LEX_INGEST_CHUNK_OVERLAP": "0",
}
_HELD = "SELECT id, key FROM documents WHERE lease_token IS NOT NULL AND id = ANY (%s)"
# Rows of the old bytes, and new ones that are not served (any more).
_WRONG = """
    SELECT (SELECT count(*) FROM generations WHERE document_id = ANY (%(ids)s) AND text LIKE '%%old version%%')
         + (SELECT count(*) FROM document_chunks WHERE document_id = ANY (%(ids)s) AND text LIKE '%%old version%%')
         + (SELECT count(*) FROM documents WHERE id = ANY (%(ids)s) AND status <> 'INDEXED')
"""
_CACHED = "SELECT count(*) FROM embeddings_1"
_IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'lex-ingest'
      AND (state LIKE 'idle in transaction%%' OR (state = 'active' AND wait_event = 'ClientRead'))
"""


def body(key: str, version: str, paragraphs: int, seconds: float) -> bytes:
    """A document of so many chunks, each with words of its own, that is read in ``seconds``."""
    texts = (
        f"The {version} version of {key} says in paragraph {number}: " + f"word{number} " * 25 for number in range(paragraphs)
    )
    return f"SLOW {seconds} ".encode() + "\n\n".join(texts).encode()


def number(connection: psycopg.Connection, ids: list[UUID], statement: str) -> int:
    """The one number that the statement gives."""
    (found,) = connection.execute(statement.encode(), {"ids": ids}).fetchone() or (0,)
    return int(found)


def pause_in_mid_document(settings: Settings, victim: Victim, busy: int, moment: float) -> dict[UUID, str]:
    """Stop the worker ``moment`` seconds after ``busy`` of its processes have work; return the documents that it holds then."""
    wait_until(lambda: len(victim.holds()) >= busy, 30, f"{victim.name} works on documents")
    time.sleep(moment)
    victim.send(signal.SIGSTOP)
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        return dict(connection.execute(_HELD.encode(), (list(victim.holds()),)).fetchall())


@pytest.mark.fault("paused worker", "0 rows of the old bytes")
@pytest.mark.timeout(600)
def test_a_worker_that_was_paused_past_its_lease_adds_no_row(
    fault: Fault, settings: Settings, provider: Provider, tmp_path: Path
) -> None:
    # Each process that is stopped in the middle of a document counts: it has a lease of its own.
    wanted, slots = fault.size(3, 100), fault.size(4, 9)
    provider.delay = 1.0
    paused = rounds = wrong = in_transaction = 0
    slowest = 0.0
    # One connection for all questions, which come fast.
    with (
        victims(tmp_path, ["one", "two"], slots, **ENVIRONMENT) as workers,
        psycopg.connect(settings.database_url, autocommit=True) as connection,
    ):
        while paused < wanted:
            victim, other = workers[rounds % 2], workers[1 - rounds % 2]
            keys = [f"{rounds}/{number}.slow" for number in range(2 * slots)]
            upload(settings, {key: body(key, "old", 8, fault.random.uniform(0, 1)) for key in keys})
            held = pause_in_mid_document(settings, victim, slots // 2, fault.random.uniform(0, 1.2))
            stopped = time.monotonic()
            rows = partial(number, connection, list(held))
            in_transaction += rows(_IN_TRANSACTION)
            upload(settings, {key: body(key, "new", 2, 0) for key in held.values()})
            wait_until(lambda rows=rows: rows(_WRONG) == 0, RESUMED + 60, "the new bytes are served")
            slowest = max(slowest, time.monotonic() - stopped)
            wait_until(lambda: truth.at_rest(settings.database_url), 30, f"{other.name} is done")
            cached = rows(_CACHED)
            victim.send(signal.SIGCONT)
            deadline = time.monotonic() + 30
            while victim.holds():
                assert time.monotonic() < deadline, f"{victim.name} does not end what it held"
                wrong += rows(_WRONG)
            wrong += rows(_WRONG) + rows(_CACHED) - cached
            paused += len(held)
            rounds += 1
            fault.figure("processes paused", paused)
            fault.figure("rows of the old bytes", wrong)
            fault.figure("inside a transaction", in_transaction)
            fault.figure("slowest takeover s", slowest)
        wait_until(lambda: truth.at_rest(settings.database_url), 30, "all is done")
    fault.require(wrong == 0, f"{wrong} rows of the old bytes, or new ones that were taken away, after the worker went on")
    fault.require(slowest <= RESUMED, f"a paused worker's document was done by another only after {slowest:.1f} s")
    for line in truth.violations(settings.database_url, settings.buckets[0]):
        fault.violation(line)
