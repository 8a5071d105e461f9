"""Workers that are told to go in the middle of a document, as a deployment or an autoscaler does it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from itertools import count
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
from tests.support.workers import scalar
from worker.settings import Settings

# A few more than a third of thirty: a worker may be between two documents when the signal comes.
AT_ONCE = 11
# Between SIGTERM and SIGKILL; documents get three seconds of it, and take ten.
GRACE = 5.0
RESUMED = 10.0
DOCUMENT = 10.0
ENVIRONMENT = {
    "LEX_INGEST_SHUTDOWN_GRACE": "3",
    # Nothing but the hand-back can bring a document to another worker in time.
    "LEX_INGEST_LEASE": "30",
    # A document's ten texts are ten requests, one after the other.
    "LEX_INGEST_EMBEDDING_BATCH": "1",
    "LEX_INGEST_EMBEDDING_IN_FLIGHT": "1",
    "LEX_INGEST_CHUNK_SIZE": "300",
    "LEX_INGEST_CHUNK_OVERLAP": "0",
}
DEFAULTS = {"LEX_INGEST_TICK": "5", "LEX_INGEST_REQUEUE_AFTER": "8"}
_ROWS = "SELECT id, status, lease_token, attempts, lease_losses FROM documents WHERE id = ANY (%s)"
# In the stage that takes longer than the grace.
_LONG = """
    SELECT count(*) FROM documents
    WHERE id = ANY (%s) AND (status = 'EMBEDDING' OR (status = 'EXTRACTING' AND key LIKE '%%/slow_to_read'))
"""


def slow_to_read(key: str) -> bytes:
    return f"SLOW {DOCUMENT} {key} takes its time to be read.".encode()


def slow_to_embed(key: str) -> bytes:
    """At least ten requests to a provider that takes a second for each."""
    return "\n\n".join(f"{key} says in paragraph {number}: " + f"word{number} " * 30 for number in range(int(DOCUMENT))).encode()


class Interrupted:
    """The documents that were in work when their workers were told to go."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._since: dict[UUID, tuple[float, object]] = {}
        self.resumed: list[float] = []
        self.spent = 0

    def rows(self, ids: list[UUID]) -> list[tuple[UUID, str, object, int, int]]:
        with psycopg.connect(self._settings.database_url, autocommit=True) as connection:
            return connection.execute(_ROWS.encode(), (ids,)).fetchall()

    def add(self, ids: list[UUID]) -> None:
        held = {identity: token for identity, _, token, *_ in self.rows(ids) if token is not None}
        self._since.update({identity: (time.monotonic(), token) for identity, token in held.items()})

    def look(self) -> bool:
        """Whether each is in work again, or done."""
        for identity, status, token, attempts, losses in self.rows(list(self._since)):
            since, before = self._since[identity]
            self.spent = max(self.spent, attempts, losses)
            if status == "INDEXED" or token not in (None, before):
                self.resumed.append(time.monotonic() - since)
                del self._since[identity]
        return not self._since


def end_after_grace(leaving: list[Victim], told: float) -> bool:
    """Kill what is still there when the grace is over; whether all have gone."""
    here = [victim for victim in leaving if victim.process.poll() is None]
    if time.monotonic() - told > GRACE:
        for victim in here:
            victim.send(signal.SIGKILL)
    return not here


@pytest.mark.fault("scale-in", "0 lost, resumed <= 10 s, no attempt and no lease lost")
@pytest.mark.timeout(400)
def test_what_a_leaving_worker_had_in_hand_is_done_by_another(
    fault: Fault, settings: Settings, provider: Provider, tmp_path: Path
) -> None:
    provider.delay = 1.0

    def occupied(workers: list[Victim]) -> Iterator[None]:
        """Ask for another document, or two, until each of the workers is in the middle of one."""
        deadline = time.monotonic() + 60
        while idle := sum(scalar(settings.database_url, _LONG, list(worker.holds())) != 1 for worker in workers):
            assert time.monotonic() < deadline, f"{idle} workers get no document"
            yield from [None] * idle
            time.sleep(2)

    environment = ENVIRONMENT | (DEFAULTS if fault.size(0, 1) else {})
    interrupted = Interrupted(settings)
    numbers = count()
    told_to_go = killed = 0
    with victims(tmp_path, ["stays"], fault.size(4, 16), **environment) as (stays,):
        while len(interrupted.resumed) < fault.size(2, 30):
            names = [f"leaves-{told_to_go + number}" for number in range(fault.size(2, AT_ONCE))]
            with victims(tmp_path, names, 1, **environment) as leaving:
                # It holds still until each of the others has a document.
                stays.send(signal.SIGSTOP)
                for _ in occupied(leaving):
                    kind = fault.random.choice((slow_to_read, slow_to_embed))
                    key = f"{next(numbers)}/{kind.__name__}"
                    upload(settings, {key: kind(key)})
                stays.send(signal.SIGCONT)
                time.sleep(fault.random.uniform(0, 1.0))
                told = time.monotonic()
                for victim in leaving:
                    interrupted.add(list(victim.holds()))
                    victim.process.terminate()
                wait_until(
                    lambda leaving=leaving, told=told: end_after_grace(leaving, told) & interrupted.look(), 60, "all is resumed"
                )
            told_to_go += len(names)
            killed += sum(victim.process.returncode == -signal.SIGKILL for victim in leaving)
        provider.delay = 0
        wait_until(lambda: truth.at_rest(settings.database_url), 90, "every document has ended")
    fault.figure("SIGTERMs", told_to_go)
    fault.figure("interrupted", len(interrupted.resumed))
    fault.figure("killed after the grace", killed)
    fault.figure("slowest resumed s", max(interrupted.resumed, default=0.0))
    fault.require(max(interrupted.resumed, default=99.0) <= RESUMED, "a document was not resumed in time")
    fault.require(interrupted.spent == 0, f"a clean shutdown cost a document {interrupted.spent} attempts or lost leases")
    for line in truth.violations(settings.database_url, settings.buckets[0]):
        fault.violation(line)
