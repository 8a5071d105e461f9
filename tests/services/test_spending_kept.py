"""What the cost ledger keeps: announcements that were given up, and the money of documents that are erased."""

from __future__ import annotations

import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.conftest import wait_until
from tests.support.documents import TIDE, count, delete_object, execute, put_and_tell, tell
from tests.support.spending import announced, confirmed, part, rows, spend, sums, waiting
from worker.domain.spending import Answer, Purpose, divide
from worker.services.housekeeping import Tidied, tidy
from worker.services.purge import purge
from worker.settings import Settings
from worker.store import spending

ONE, TWO = UUID(int=1), UUID(int=2)


def prune(settings: Settings) -> Tidied:
    with psycopg.connect(settings.database_url) as connection:
        return tidy(connection, settings)


def test_old_announcements_become_a_figure_of_their_day_and_stay_unconfirmed(settings: Settings) -> None:
    old = announced(settings, inputs=2, most_tokens=30)
    announced(settings, inputs=3, most_tokens=40)
    execute(settings, "UPDATE embedding_requests SET sent_at = now() - interval '49 hours', day = '2026-03-01'")
    announced(settings, inputs=1, most_tokens=5)
    execute(settings, "UPDATE embedding_requests SET sent_at = now() - interval '47 hours' WHERE inputs = 1")
    before = waiting(settings)
    for number in (2, 0):
        assert prune(settings).announcements == number
        assert waiting(settings) == before == [(2, 5, 70), (1, 1, 5)]
    assert count(settings, "embedding_requests") == 1
    assert confirmed(settings, Answer(old, (part(ONE, 10),))) == 0
    execute(settings, "UPDATE embedding_requests SET sent_at = now() - interval '49 hours', day = '2026-03-01'")
    assert prune(settings).announcements == 1
    assert waiting(settings) == [(3, 6, 75)]
    spend(settings, part(ONE, 10))
    assert waiting(settings) == [(3, 6, 75)]


@pytest.mark.parametrize("way", ["in time", "at once"])
def test_what_was_spent_for_a_document_stays_when_it_is_erased_without_its_id(settings: Settings, way: str) -> None:
    key = "secret/quagga.txt"
    gone, other = put_and_tell(settings, key, TIDE), put_and_tell(settings, "other.txt", TIDE)
    spend(settings, part(gone, 7), price=None)
    execute(settings, "UPDATE spending SET day = '2026-03-01'")
    spend(settings, part(gone, 10), part(other, 5), part(None, 2), part(None, 3, purpose=Purpose.QUERY))
    before = sums(settings, "spending")
    delete_object(settings, key)
    tell(settings, key, removed=True)
    if way == "in time":
        execute(settings, "UPDATE documents SET status = 'DELETED', due_at = NULL WHERE key = %s", key)
        assert prune(dataclasses.replace(settings, erase_after=1e-6)).tombstones == 1
    else:
        assert purge(settings.buckets[0], key, settings).document
    assert sums(settings, "spending") == before == (5, 27, Decimal("0.4"), 7)
    found = rows(settings, "SELECT document_id, purpose, inputs, tokens, day = '2026-03-01' FROM spending")
    assert sorted(found, key=repr) == sorted(
        [
            (other, "document", 1, 5, False),
            (spending.NOBODY, "document", 2, 12, False),
            (spending.NOBODY, "document", 1, 7, True),
            (spending.NOBODY, "query", 1, 3, False),
        ],
        key=repr,
    )


def test_erasure_and_confirmers_at_once_lose_nothing(settings: Settings) -> None:
    """Forty documents are erased in one transaction while others add to their sums."""
    documents = [uuid4() for _ in range(40)]
    execute(
        settings,
        "INSERT INTO documents (id, bucket, key, status, due_at) SELECT id, 'b', id::text, 'DELETED', NULL FROM unnest(%s) id",
        documents,
    )
    barrier = Barrier(5)

    def work(seed: int) -> int:
        order = random.Random(seed)
        barrier.wait()
        tokens = 0
        for _ in range(30):
            texts: list[tuple[UUID | None, Purpose, int]] = [(None, Purpose.DOCUMENT, 1)]
            texts += [(document, Purpose.DOCUMENT, 1) for document in order.sample(documents, 20)]
            usage = order.randint(1, 100)
            tokens += usage
            confirmed(settings, Answer(announced(settings), divide(usage, texts)))
        return tokens

    def erase() -> None:
        barrier.wait()
        wait_until(lambda: count(settings, "spending") > 40, 20, "all documents have sums")
        assert prune(dataclasses.replace(settings, erase_after=1e-6)).tombstones == 40

    with ThreadPoolExecutor(5) as pool:
        erasing = pool.submit(erase)
        tokens = sum(pool.map(work, range(4)))
        erasing.result()
    assert count(settings, "documents") == 0
    assert sums(settings, "spending")[1] == sums(settings, "spending_days")[1] == tokens
